// Python in the background: loads with the first log, then answers each.
const ask = self.fetch;
let python = null;
let loaded = 0;

// Pyodide fetches its files itself; this counts the bytes as they come.
function counted(total) {
  return async (...request) => {
    const reply = await ask(...request);
    const count = new TransformStream({
      transform(chunk, controller) {
        loaded += chunk.byteLength;
        const part = loaded / total;
        postMessage(part < 1 ? { doing: "Loading Python", part } : { doing: "Starting Python" });
        controller.enqueue(chunk);
      },
    });
    const { status, headers } = reply;
    return new Response(reply.body.pipeThrough(count), { status, headers });
  };
}

async function load(files, bytes) {
  self.fetch = counted(bytes);
  const { loadPyodide } = await import(`${files}pyodide/pyodide.mjs`);
  const started = await loadPyodide({ indexURL: `${files}pyodide/` });
  const archive = await (await ask(`${files}gradlib.zip`)).arrayBuffer();
  started.unpackArchive(archive, "zip", { extractDir: "/gradlib" });
  started.runPython("import os, sys; sys.path.insert(0, '/gradlib'); os.mkdir('/logs')");
  started.runPython("os.chdir('/logs'); from answer import answer");
  return started;
}

self.onmessage = async ({ data: { files, bytes, log, name, width } }) => {
  try {
    python ??= await load(files, bytes);
    postMessage({ doing: "Reading the log", part: 0 });
    const path = name.replaceAll("/", "_");
    python.FS.writeFile(`/logs/${path}`, new Uint8Array(await log.arrayBuffer()));
    const told = (done) =>
      postMessage({ doing: "Reading the log", part: Math.min(1, done / log.size) });
    const answer = python.globals.get("answer");
    const page = answer(path, width, told);
    answer.destroy();
    python.FS.unlink(`/logs/${path}`);
    postMessage(JSON.parse(page));
  } catch (error) {
    python = null;
    const reason = error.message.trim().split("\n").at(-1);
    postMessage({ error: `The log could not be read here: ${reason}` });
  }
};
