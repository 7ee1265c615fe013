// Moves the player to where somebody clicks into the plot of scores, and the
// mark in the plot to where the player is.
(() => {
  const plot = () => document.querySelector('.score-plot');
  const player = () => document.querySelector('#player video');

  // the first moment of the frame that is shown at a share of the plot
  const timeAt = (element, share) => {
    const wanted = share * Number(element.dataset.seconds);
    const times = JSON.parse(element.dataset.times);
    let time = times[0];
    for (const each of times) if (each <= wanted) time = each;
    return time + 0.001;
  };

  const jump = (event) => {
    const area = event.target.closest('.score-plot .area');
    if (!area || !player()) return;
    const box = area.getBoundingClientRect();
    const share = Math.min(1, Math.max(0,
      (event.clientX - box.left) / box.width));
    player().pause();
    player().currentTime = timeAt(area.parentElement, share);
  };

  document.addEventListener('pointerdown', jump);
  document.addEventListener('pointermove', (event) => {
    if (event.buttons === 1) jump(event);
  });

  document.addEventListener('keydown', (event) => {
    const element = event.target.closest('.score-plot');
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!element || !step || !player()) return;
    const times = JSON.parse(element.dataset.times);
    let now = 0;
    times.forEach((time, index) => {
      if (time <= player().currentTime) now = index;
    });
    const next = Math.min(times.length - 1, Math.max(0, now + step));
    player().pause();
    player().currentTime = times[next] + 0.001;
    event.preventDefault();
  });

  const follow = () => {
    const mark = document.querySelector('.score-plot .playhead');
    if (mark && player()) {
      const seconds = Number(plot().dataset.seconds);
      const share = Math.min(1, player().currentTime / seconds);
      mark.style.left = `${100 * share}%`;
      plot().setAttribute('aria-valuenow', player().currentTime.toFixed(2));
    }
    requestAnimationFrame(follow);
  };
  requestAnimationFrame(follow);
})();
