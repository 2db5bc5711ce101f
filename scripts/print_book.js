// Joins the book's pages into the one that is open, ready for printing.

const STYLE = `
  :root { font-size: 10.5pt; }
  html, body { background: white; overflow: visible !important; }
  .book-cover { break-after: page; padding-top: 30vh; text-align: center; }
  .book-cover img { width: 5cm; }
  .book-contents { break-after: page; }
  .book-contents li { margin: .2rem 0; }
  .book-page + .book-page { break-before: page; }
  .book-page { display: block; }
  h1, h2, h3, h4 { break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  pre, img, svg, figure.gl-fig, tr, blockquote, .admonition:not(details) { break-inside: avoid; }
  img, svg { max-width: 100%; height: auto; }
  table { font-size: .85em; }
  div.math, .cell_output { overflow: visible !important; }
  details > summary { display: none !important; }
`;

const UNPRINTED =
  "script, .headerlink, .gl-frame[hidden], .gl-fig input, .tag_hide-input details";

const stemOf = (name) => name.replace(/\.html$/, "").replaceAll("/", "-");

async function articleOf(name, root) {
  const answer = await fetch(new URL(name, root));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector("article.bd-article");
}

// Ids get the page's name before them; those of slider figures are unique already.
function prefixIds(article, stem) {
  for (const node of article.querySelectorAll("[id]")) {
    if (!node.closest("figure.gl-fig")) node.id = `${stem}--${node.id}`;
  }
}

function rewriteLinks(article, name, root, names, home) {
  const here = new URL(name, root);
  for (const node of article.querySelectorAll("img[src]")) {
    node.src = new URL(node.getAttribute("src"), here).href;
    node.removeAttribute("loading");
  }
  for (const node of article.querySelectorAll("a[href]")) {
    const target = new URL(node.getAttribute("href"), here);
    if (!target.href.startsWith(root.href)) continue;
    const page = target.pathname.slice(root.pathname.length);
    const hash = target.hash.slice(1);
    if (!names.includes(page)) node.href = new URL(page + target.hash, home).href;
    else node.setAttribute("href", `#${stemOf(page)}${hash && `--${hash}`}`);
  }
}

function contentsOf(sections) {
  const list = sections.map(({ stem, article }) => {
    const title = article.querySelector("h1");
    return `<li><a href="#${stem}">${title.innerHTML}</a></li>`;
  });
  return `<nav class="book-contents"><h1>Contents</h1>
    <ul style="list-style: none">${list.join("")}</ul></nav>`;
}

async function joinPages({ names, address, home }) {
  const root = new URL(address);
  const sections = [];
  for (const name of names) {
    const article = await articleOf(name, root);
    const stem = stemOf(name);
    prefixIds(article, stem);
    rewriteLinks(article, name, root, names, home);
    article.querySelectorAll(UNPRINTED).forEach((node) => node.remove());
    article.querySelectorAll(".tag_hide-cell details").forEach((d) => (d.open = true));
    sections.push({ stem, article });
  }
  const title = document.title.split(/ [—|-] /).pop();
  document.title = title;
  document.documentElement.dataset.theme = "light";
  document.body.innerHTML = `<style>${STYLE}</style>
    <header class="book-cover"><img src="${root}_static/logo.svg" alt="">
    <p style="font-size: 2.4rem; font-weight: 600">${title}</p>
    <p><a href="${home}">${home}</a></p></header>${contentsOf(sections)}`;
  for (const { stem, article } of sections) {
    article.id = stem;
    article.classList.add("book-page");
    document.body.append(article);
  }
  await MathJax.typesetPromise();
  await document.fonts.ready;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
}
