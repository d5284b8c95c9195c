"use strict";
// The figures that a page has from the beginning.

for (const figure of document.querySelectorAll("figure[data-plot]")) draw(figure);
