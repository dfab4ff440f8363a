// Brings the sliders of a published sweep to life. No library, no network; without it the first frame stays.
(() => {
  "use strict";
  try { new DecompressionStream("deflate-raw"); } catch { return; }

  const unpack = async (base64) => {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).json();
  };

  const setUp = (figure) => {
    const find = (selector) => [...figure.querySelectorAll(selector)];
    const data = JSON.parse(find("script[type='application/json']")[0].textContent);
    const [stage] = find(".geo-stage"), [caption] = find(".geo-caption"), [controls] = find(".geo-controls");
    const [play] = find(".geo-play"), inputs = find(".geo-range"), values = find(".geo-value > span");
    const now = data.sliders.map((slider) => slider.start);
    let unpacked = null, timer = 0, asked = 0;

    // The frames are unpacked once, when a reader first comes near.
    const frames = () => unpacked ??= unpack(data.frames).finally(() => { data.frames = ""; });

    const picture = async (frame, caption) => {
      const holder = document.createElement("div");
      holder.innerHTML = data.kind === "drawing" ? frame : '<img class="dark-light">';
      const image = holder.firstElementChild;
      if (data.kind === "drawing") image.setAttribute("aria-label", caption);
      else {
        image.alt = caption;
        image.src = "data:image/png;base64," + frame;
        await image.decode();
      }
      return image;
    };

    const draw = async () => {
      const mine = ++asked;
      try {
        const all = await frames();
        const at = data.sliders.reduce((index, slider, k) => index * slider.texts.length + now[k], 0);
        const frame = all.frames[at].map((part) => all.parts[part]).join("");
        const image = await picture(frame, all.captions[at]);
        if (mine !== asked) return;                    // the reader has moved on meanwhile
        stage.replaceChildren(image);
        caption.textContent = all.captions[at];
      } catch (error) {
        stop();
        controls.hidden = true;                        // better a still than sliders that do nothing
        console.error("geolessons: the frames of this figure cannot be unpacked.", error);
      }
    };

    const go = (k, index) => {
      const { name, texts, at } = data.sliders[k];
      const next = Math.max(0, Math.min(texts.length - 1, index));
      inputs[k].value = at[next];
      if (next === now[k]) return;
      now[k] = next;
      values[k].textContent = texts[next];
      inputs[k].setAttribute("aria-valuetext", `${name}: ${texts[next]}`);
      draw();
    };

    const stop = () => {
      clearInterval(timer);
      timer = 0;
      if (!play) return;
      figure.classList.remove("geo-playing");
      caption.setAttribute("aria-live", "polite");
      play.setAttribute("aria-label", play.dataset.play);
    };

    const start = () => {
      const last = data.sliders[0].texts.length - 1;
      if (now[0] === last) go(0, 0);
      figure.classList.add("geo-playing");
      caption.setAttribute("aria-live", "off");        // or a screen reader would read every frame
      play.setAttribute("aria-label", play.dataset.pause);
      timer = setInterval(() => {
        go(0, now[0] + 1);
        if (now[0] === last) stop();
      }, Math.max(120, Math.min(900, 5000 / last)));
    };

    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5, Home: -1e9, End: 1e9 };
    inputs.forEach((input, k) => {
      input.addEventListener("keydown", (event) => {
        if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        stop();
        go(k, now[k] + moves[event.key]);
      });
      input.addEventListener("input", () => {
        stop();
        const off = data.sliders[k].at.map((position) => Math.abs(position - input.value));
        go(k, off.indexOf(Math.min(...off)));
      });
    });
    play.addEventListener("click", () => (timer ? stop() : start()));
    find(".geo-step").forEach((button) =>
      button.addEventListener("click", () => { stop(); go(0, now[0] + Number(button.dataset.by)); }));
    for (const event of ["pointerenter", "focusin"]) figure.addEventListener(event, () => frames().catch(() => {}), { once: true });
    figure.dataset.ready = "";
    controls.hidden = false;
  };

  document.querySelectorAll("figure.geo-sweep:not(.geo-still):not([data-ready])").forEach(setUp);
})();
