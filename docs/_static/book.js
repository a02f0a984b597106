// What the theme leaves without a name: screen readers list a page's parts by them.
addEventListener("DOMContentLoaded", () => {
  const named = { ".sidebar-drawer": "Contents of the book", ".toc-drawer": "Contents of this page" };
  for (const part in named) document.querySelector(part)?.setAttribute("aria-label", named[part]);
  const buttons = document.querySelector(".content-icon-container");
  if (buttons) { buttons.setAttribute("role", "region"); buttons.setAttribute("aria-label", "Look of the book"); }
  for (const table of document.querySelectorAll(".table-wrapper"))  // wide ones can be moved by the keyboard, too
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
});
// The contents are longer than the screen: show where in them we are.
addEventListener("load", () => {
  const here = document.querySelector(".sidebar-tree .current-page > a"), contents = document.querySelector(".sidebar-scroll");
  if (here && contents) contents.scrollTop = here.getBoundingClientRect().top - contents.clientHeight / 2;
});
