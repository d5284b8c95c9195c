"""The static site: ``leaderboard.json`` as pages that open from a folder or a web server, without a network.

A page of the site is a pure function of the board: the same board gives the same bytes. Everything that can be read is
in the HTML; scripts add what needs a reader's choice.

- **Tables** are made here, and sorted and filtered by a hundred lines of our own (``static/tables.js``). The kept
  libraries (Grid.js, DataTables, Tabulator) build their rows from data in the browser, so that nothing is left without
  scripts, and split a thousand of them into pages; simple-datatables is LGPL.
- **Bars with their intervals** are SVG in the cell that has the number: one table is the plot and its data.
- **Curves** are drawn by uPlot (MIT, 51 kB, no dependency) from the table below them, which is their only data, so
  that the two cannot differ. They are drawn in the browser because the two defenses of a comparison are chosen there;
  one way to draw a curve serves both kinds of page, and a thousand entries cost no drawing here. Without scripts the
  tables are left, which have every number.
- **Data of a comparison** are scripts, one an entry: from ``file://`` nothing else can be loaded.

- **A report** (``bench report``) is one run as one file, of the same templates, with style sheets and scripts within
  it, each allowed by its hash; links to the method lead to its end.

Everything that a submission says is untrusted: Jinja2 escapes all of it, characters that nobody sees are made visible,
and only http and https addresses become links. A content security policy lets pages load the site's own files only.
"""
