// Who one is, and what their key may do: the rest is not offered.

import { signal } from "../core/reactive.js";
import { get } from "./http.js";

export const me = signal(null);

export async function learn() {
  me.value = await get("/api/me");
}

export function may(scope) {
  return me.value?.scopes.includes(scope) ?? false;
}
