// The branches of a family, and which of them stand beside a message.

// `nodes` as the API lists them, oldest first. The sessions that go on in other ways where a message stands, and the
// place of this one among them; null where there is no other.
export function siblingsOf(nodes, message, isFirstOwn) {
  const own = nodes.find(({ session_id: id }) => id === message.session_id);
  if (!own) return null;
  const fork = own.parent && isFirstOwn ? own.parent : { session_id: own.session_id, version: message.version - 1 };
  const beside = ({ parent }) => parent?.session_id === fork.session_id && parent.version === fork.version;
  const found = nodes.filter((node) => node.session_id === fork.session_id || beside(node));
  return found.length > 1 ? { sessions: found.map(({ session_id: id }) => id), index: found.indexOf(own) } : null;
}

// A family as lines of a tree: each node with how deep it stands.
export function treeOf(nodes, root) {
  const children = (id) => nodes.filter(({ parent }) => parent?.session_id === id);
  const walk = (node, depth) => [{ node, depth }, ...children(node.session_id).flatMap((child) => walk(child, depth + 1))];
  const first = nodes.find(({ session_id: id }) => id === root);
  return first ? walk(first, 0) : [];
}
