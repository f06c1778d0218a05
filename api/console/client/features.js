// What this server can do, by its own description, and what the caller may do, by their key. What is not there is not
// offered.

import { signal } from "../core/reactive.js";
import { get } from "./http.js";

export const me = signal(null);
let routes = new Map();
let schemas = {};

export async function learn() {
  const [who, document] = await Promise.all([get("/api/me"), get("/schema/openapi.json")]);
  me.value = who;
  schemas = document.components.schemas;
  routes = new Map();
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const parameters = new Set((operation.parameters ?? []).map(({ name }) => name));
      routes.set(`${method.toUpperCase()} ${path.replace(/\{\w+\}/g, "{}")}`, parameters);
    }
  }
}

// Whether there is a route, written like "GET /api/turns/{}/prompt", and whether it takes a parameter.
export function has(route, parameter) {
  const parameters = routes.get(route);
  return parameters !== undefined && (parameter === undefined || parameters.has(parameter));
}

// Whether a body or an answer has a field.
export function knows(schema, field) {
  return schemas[schema]?.properties?.[field] !== undefined;
}

export function may(scope) {
  return me.value?.scopes.includes(scope) ?? false;
}
