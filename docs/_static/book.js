// The contents are longer than the screen: show where in them we are.
addEventListener("load", () => {
  const here = document.querySelector(".sidebar-tree .current-page > a"), contents = document.querySelector(".sidebar-scroll");
  if (here && contents) contents.scrollTop = here.getBoundingClientRect().top - contents.clientHeight / 2;
});
