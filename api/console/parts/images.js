// Images: shown only from bytes that stand in the record, as blobs; read from a file, the clipboard or a drop.

import { h, onEnd } from "../core/reactive.js";
import { toBase64 } from "../proof/canonical.js";

export const IMAGE_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

// An image from base64; null for what is of no known type or no base64.
export function imageOf({ media_type: type, data }, alt) {
  if (!IMAGE_TYPES.includes(type) || typeof data !== "string") return null;
  let bytes;
  try {
    bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
  } catch {
    return null;
  }
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  onEnd(() => URL.revokeObjectURL(url));
  return h("img", { src: url, alt, loading: "lazy" });
}

// The content block of an image file.
export async function blockOf(file) {
  if (!IMAGE_TYPES.includes(file.type)) throw new Error(`${file.name || "This file"} is no PNG, JPEG, GIF or WebP.`);
  const data = toBase64(new Uint8Array(await file.arrayBuffer()));
  return { type: "image", source: { type: "base64", media_type: file.type, data } };
}
