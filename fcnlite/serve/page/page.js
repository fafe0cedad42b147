// The page: a picture goes to /api/segment once for each net, and its labels are drawn over it.

const byId = (id) => document.getElementById(id);
const status = byId("status");
let told = { nets: [], limits: { upload: 0, pixels: 0 } };
let latest = 0; // a picture that comes while another is at work replaces it

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

async function start() {
  const answer = await fetch("api/nets");
  told = await answer.json();
  const most = Math.min(2, told.nets.length);
  for (let place = 0; place < most && told.nets.length > 1; place++) byId("choices").append(chooser(place));
  say("");
}

function chooser(place) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", place ? "Second net" : "First net");
  for (const net of told.nets) select.append(new Option(net.name));
  if (place) select.append(new Option("(none)", ""));
  select.selectedIndex = place;
  select.addEventListener("change", () => current && segment(current));
  return select;
}

function chosen() {
  const selects = [...document.querySelectorAll("#choices select")];
  const names = selects.length ? selects.map((select) => select.value) : told.nets.map((net) => net.name);
  return [...new Set(names.filter(Boolean))];
}

// Pictures: upright, no larger than the server takes.

let current = null;

async function open(file) {
  if (!file) return;
  try {
    await started; // until then neither the nets nor the limits are known
  } catch {
    return; // which is said
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    // What this browser cannot show is for the server to judge.
    await segment({ body: file, bitmap: null, note: "" });
    return;
  }
  const factor = Math.sqrt(told.limits.pixels / (bitmap.width * bitmap.height));
  if (factor >= 1 && file.size <= told.limits.upload) return segment({ body: file, bitmap, note: "" });
  const scale = Math.min(1, factor);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
  canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const body = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const note = `Shrunk from ${bitmap.width} x ${bitmap.height} to ${canvas.width} x ${canvas.height}. `;
  return segment({ body, bitmap: await createImageBitmap(canvas), note });
}

async function segment(picture) {
  current = picture;
  const mine = ++latest;
  const names = chosen();
  byId("results").replaceChildren();
  byId("controls").hidden = true;
  for (const [i, name] of names.entries()) {
    say(`${picture.note}${name} is at work${names.length > 1 ? ` (${i + 1} of ${names.length})` : ""} ...`);
    const begun = performance.now();
    let result;
    try {
      const query = new URLSearchParams({ net: name, format: "json" });
      const answer = await fetch(`api/segment?${query}`, { method: "POST", body: picture.body });
      result = await answer.json();
      if (!answer.ok) throw new Error(result.error);
    } catch (error) {
      if (mine === latest) say(error instanceof TypeError ? "The server does not answer." : sentence(error.message), true);
      return;
    }
    if (mine !== latest) return;
    await show(result, picture, (performance.now() - begun) / 1000);
  }
  byId("controls").hidden = false;
  say(picture.note);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

// Results: labels come as a palette PNG; its colours tell the classes.

async function show(result, picture, seconds) {
  const article = byId("result").content.cloneNode(true).firstElementChild;
  const png = Uint8Array.from(atob(result.png), (letter) => letter.charCodeAt(0));
  const blob = new Blob([png], { type: "image/png" });
  const labels = await createImageBitmap(blob);
  const net = told.nets.find((each) => each.name === result.net);
  article.querySelector("h2").textContent = result.net;
  article.querySelector(".time").textContent = `${result.width} x ${result.height}, ${seconds.toFixed(1)} s`;
  const link = article.querySelector(".download");
  link.href = URL.createObjectURL(blob);
  link.download = `${result.net}-labels.png`;
  const canvas = article.querySelector("canvas");
  canvas.width = result.width;
  canvas.height = result.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(labels, 0, 0);
  const colours = context.getImageData(0, 0, canvas.width, canvas.height);
  const hidden = new Set(result.classes.filter((one) => one.index === net.background).map((one) => one.colour));
  const draw = () => paint(context, colours, picture.bitmap, hidden);
  article.querySelector("tbody").append(...result.classes.map((one) => row(one, hidden, draw)));
  article.querySelector(".all").addEventListener("change", (event) => {
    for (const box of article.querySelectorAll("tbody input")) if (box.checked !== event.target.checked) box.click();
  });
  article.redraw = draw;
  byId("results").append(article);
  draw();
}

function row(one, hidden, draw) {
  const tr = document.createElement("tr");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = !hidden.has(one.colour);
  box.id = `class-${Math.random().toString(36).slice(2)}`;
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(one.colour);
    else hidden.add(one.colour);
    draw();
  });
  const label = document.createElement("label");
  label.htmlFor = box.id;
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = one.colour;
  label.append(swatch, one.name);
  const share = `${(100 * one.share).toFixed(1)} %`;
  for (const content of [box, label, share]) tr.insertCell().append(content);
  return tr;
}

function paint(context, colours, bitmap, hidden) {
  const { width, height } = context.canvas;
  const strength = bitmap ? byId("strength").value / 100 : 1;
  context.clearRect(0, 0, width, height);
  if (bitmap) context.drawImage(bitmap, 0, 0, width, height);
  const mixed = context.getImageData(0, 0, width, height);
  const skip = new Set([...hidden].map((colour) => parseInt(colour.slice(1), 16)));
  const from = colours.data;
  const to = mixed.data;
  for (let i = 0; i < to.length; i += 4) {
    if (skip.has((from[i] << 16) | (from[i + 1] << 8) | from[i + 2])) continue;
    for (let k = i; k < i + 3; k++) to[k] += strength * (from[k] - to[k]);
    to[i + 3] = 255;
  }
  context.putImageData(mixed, 0, 0);
}

// Ways in: drop, paste, choose, camera.

const drop = byId("drop");
for (const kind of ["dragenter", "dragover"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) window.addEventListener(kind, () => drop.classList.remove("over"));
window.addEventListener("drop", (event) => {
  event.preventDefault();
  open(event.dataTransfer.files[0]);
});
window.addEventListener("paste", (event) => open([...event.clipboardData.files][0]));
byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  open(event.target.files[0]);
  event.target.value = "";
});
byId("strength").addEventListener("input", () => {
  for (const article of document.querySelectorAll("article")) article.redraw();
});

const viewfinder = byId("viewfinder");
const video = viewfinder.querySelector("video");
byId("camera").addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    viewfinder.showModal();
  } catch {
    say("There is no camera, or the browser was not allowed to use it.", true);
  }
});
byId("cancel").addEventListener("click", () => viewfinder.close());
viewfinder.addEventListener("close", () => {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
});
byId("snap").addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  viewfinder.close();
  canvas.toBlob(open, "image/png");
});

const started = start();
started.catch(() => say("The server does not answer.", true));
