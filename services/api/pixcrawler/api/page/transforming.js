// What is to be done to the images of a new job: nothing, unless somebody says so.

import { h } from "./dom.js";

const select = (id, choices, hint = true) =>
  h("select", { id, ...(hint ? { "aria-describedby": `${id}-hint` } : {}) }, choices.map(([value, text]) => h("option", { value }, text)));

const number = (id, value, max) =>
  h("input", { id, type: "number", min: 1, max, value, inputmode: "numeric", "aria-describedby": `${id}-hint` });

/** The inputs by the API's names, their elements (`field` makes one), and what they ask for. */
export function transforming() {
  const inputs = {
    resize_mode: select("resize_mode", [["none", "as they are"], ["keep_ratio", "resize, keep the ratio"], ["center_crop", "resize, crop to a square"]]),
    image_size: number("image_size", 256, 8192),
    resize_only_if_bigger: select("resize_only_if_bigger", [["no", "enlarge them"], ["yes", "leave them alone"]], false),
    image_format: select("image_format", [["original", "as they are"], ["jpeg", "JPEG"], ["png", "PNG"], ["webp", "WebP"]]),
    quality: number("quality", 95, 100),
    upright: select("upright", [["no", "as they are"], ["yes", "turn them upright"]]),
  };
  const resizes = () => inputs.resize_mode.value !== "none";
  const encodes = () =>
    inputs.image_format.value !== "png" && (resizes() || inputs.image_format.value !== "original" || inputs.upright.value === "yes");

  /** In the order of the form; those that nothing depends on are hidden. */
  function elements(field) {
    const made = {
      resize_mode: field("resize_mode", "Size of the images", inputs.resize_mode, "As they are: byte for byte as they were found."),
      image_size: field("image_size", "Resize to, in pixels", inputs.image_size, "The shorter side, or the side of the square."),
      resize_only_if_bigger: field("resize_only_if_bigger", "Images that are smaller", inputs.resize_only_if_bigger, ""),
      image_format: field("image_format", "Format of the images", inputs.image_format, "Transparent parts turn white in a JPEG."),
      upright: field("upright", "Rotated photographs", inputs.upright, "As their EXIF orientation says."),
      quality: field("quality", "Quality", inputs.quality, "1 to 100, of JPEG and WebP that are written anew."),
    };
    const show = () => {
      made.image_size.hidden = !resizes();
      made.resize_only_if_bigger.hidden = !resizes();
      made.quality.hidden = !encodes();
    };
    for (const input of [inputs.resize_mode, inputs.image_format, inputs.upright]) input.addEventListener("change", show);
    show();
    return Object.values(made);
  }

  function asked() {
    return {
      resize_mode: inputs.resize_mode.value,
      image_format: inputs.image_format.value,
      upright: inputs.upright.value === "yes",
      ...(resizes() ? { image_size: Number(inputs.image_size.value), resize_only_if_bigger: inputs.resize_only_if_bigger.value === "yes" } : {}),
      ...(encodes() ? { quality: Number(inputs.quality.value) } : {}),
    };
  }

  return { inputs, elements, asked };
}
