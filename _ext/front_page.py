"""What the site has once: the page at its root, and the map for search engines.

Jupyter Book puts a bare redirect at the root; a copy of the first page needs no second
request and has a title, a language and a description. The map names every page of the
book, also after a build that wrote only some of them; sphinx-sitemap 2.9 would then
name only those.
"""

import shutil
from html import escape
from pathlib import Path

from finishing_order import priority
from sphinx.application import Sphinx


def site_map(addresses: list[str]) -> str:
    urls = "".join(f"<url><loc>{escape(a)}</loc></url>\n" for a in addresses)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        f"{urls}</urlset>\n"
    )


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    shutil.copyfile(out / f"{app.config.root_doc}.html", out / "index.html")
    addresses = [
        app.config.html_baseurl + app.builder.get_target_uri(name)
        for name in sorted(app.env.found_docs)
    ]
    (out / "sitemap.xml").write_text(site_map(addresses), "utf8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", finish, priority=priority(__name__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
