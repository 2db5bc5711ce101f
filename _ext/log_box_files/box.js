// The page around the log: takes it, shows how far the reading is, and the answer.
// Python runs in a worker, which starts with the first log.
(() => {
  const box = document.querySelector(".log-box");
  const find = (name) => box.querySelector(name);
  const files = new URL(".", document.currentScript.src).href;
  const [ask, instead, wait, said, answer, text] = [
    ".log-ask", ".log-instead", ".log-wait", ".log-said", ".log-answer", "#log-text",
  ].map(find);
  const command = '<a href="#on-your-own-machine">command</a>';

  function missing() {
    if (location.protocol === "file:")
      return "This page was opened from a folder, and browsers load no Python from there. "
        + `Use the ${command}, or <code>make serve</code>.`;
    if (typeof WebAssembly !== "object" || typeof Worker !== "function")
      return `WebAssembly is off in this browser. Switch it on, or use the ${command}.`;
    return "";
  }

  const lack = missing();
  instead.innerHTML = lack;
  instead.hidden = !lack;
  ask.hidden = Boolean(lack);
  if (lack) return;

  let worker = null;
  let busy = false;

  // A worker from a blob keeps this page's policy: it too can ask no other host.
  function start() {
    const line = `import ${JSON.stringify(`${files}worker.js`)};`;
    const url = URL.createObjectURL(new Blob([line], { type: "text/javascript" }));
    worker = new Worker(url, { type: "module" });
    worker.onmessage = ({ data }) => hear(data);
    worker.onerror = (event) => {
      event.preventDefault();
      stop();
      say(`Python did not start in this browser. Use the ${command}.`);
    };
  }

  function stop() {
    worker?.terminate();
    worker = null;
    rest();
  }

  function rest() {
    busy = false;
    wait.hidden = true;
    find(".log-read").disabled = false;
  }

  function say(html) {
    said.innerHTML = html;
  }

  function read(log, name) {
    if (busy || !log.size) {
      if (!log.size) say("There is nothing to read yet: paste a log, or choose its file.");
      return;
    }
    if (!worker) start();
    busy = true;
    say("");
    answer.hidden = true;
    wait.hidden = false;
    find(".log-read").disabled = true;
    hear({ doing: "Loading Python", part: 0 });
    wait.scrollIntoView({ block: "nearest" });
    const width = Math.max(300, Math.min(760, box.clientWidth));
    worker.postMessage({ files, bytes: Number(box.dataset.bytes), log, name, width });
  }

  function hear(data) {
    if (data.doing) {
      const bar = find("progress");
      if (data.part === undefined) bar.removeAttribute("value");
      else bar.value = data.part;
      const doing = find(".log-doing");
      if (doing.dataset.now !== data.doing) say(`${data.doing} …`);
      doing.dataset.now = data.doing;
      doing.textContent = data.part === undefined ? "" : `${Math.floor(100 * data.part)} %`;
      return;
    }
    rest();
    say("");
    find(".log-doing").dataset.now = "";
    if (data.error !== undefined) {
      said.textContent = data.error;
      return;
    }
    answer.dataset.verdict = data.verdict;
    find(".log-copy").textContent = "Copy";
    find(".log-title").textContent = data.title;
    find(".log-page").innerHTML = data.html;
    find("pre.log-text").textContent = data.text;
    answer.hidden = false;
    find(".log-title").focus();
  }

  function readText() {
    read(new Blob([text.value]), "pasted text");
  }

  find(".log-read").addEventListener("click", readText);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) readText();
  });
  find("input[type=file]").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) read(file, file.name);
    target.value = "";
  });
  find(".log-stop").addEventListener("click", () => {
    stop();
    say("Stopped.");
  });
  find(".log-copy").addEventListener("click", async ({ target }) => {
    try {
      await navigator.clipboard.writeText(find("pre.log-text").textContent);
      target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(find("pre.log-text"));
    }
  });
  for (const button of box.querySelectorAll("[data-example]"))
    button.addEventListener("click", async () => {
      const reply = await fetch(`${files}examples/${button.dataset.example}`);
      text.value = await reply.text();
      readText();
    });
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("log-over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("log-over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("log-over");
    const [file] = event.dataTransfer.files;
    if (file) read(file, file.name);
  });
})();
