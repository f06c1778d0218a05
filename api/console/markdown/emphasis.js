// Runs of * and _, and how they match (CommonMark, section 6.2).

const PUNCTUATION = /[\p{P}\p{S}]/u;
const SPACE = /[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/;

export function scanRun(text, at, sign) {
  let end = at;
  while (text[end] === sign) end++;
  const before = characterBefore(text, at);
  const after = end < text.length ? String.fromCodePoint(text.codePointAt(end)) : " ";
  const [spaceBefore, spaceAfter] = [SPACE.test(before), SPACE.test(after)];
  const [signBefore, signAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
  const left = !spaceAfter && (!signAfter || spaceBefore || signBefore);
  const right = !spaceBefore && (!signBefore || spaceAfter || signAfter);
  const canOpen = left && (sign === "*" || !right || signBefore);
  const canClose = right && (sign === "*" || !left || signAfter);
  return { kind: "run", sign, size: end - at, count: end - at, canOpen, canClose, opens: [], closes: [], at };
}

function characterBefore(text, at) {
  if (at === 0) return " ";
  const unit = text.charCodeAt(at - 1);
  return at > 1 && unit >= 0xdc00 && unit < 0xe000 ? text.slice(at - 2, at) : text[at - 1];
}

// The runs that may still match, newest first, each linked to its neighbours.
export class Runs {
  newest = null;

  push(run) {
    run.prev = this.newest;
    if (this.newest) this.newest.next = run;
    this.newest = run;
  }

  // Matches the runs above `bottom` with each other, and forgets them. Gives the place of the first that might still
  // have opened something.
  match(bottom) {
    const floors = new Map();
    for (let closer = this.firstAbove(bottom); closer; ) {
      const { next } = closer;
      if (!closer.canClose) {
        closer = next;
        continue;
      }
      const kind = `${closer.sign}${closer.canOpen}${closer.size % 3}`;
      const opener = findOpener(closer, bottom, floors.get(kind));
      if (opener) {
        pair(opener, closer);
        opener.next = closer;
        closer.prev = opener;
        if (!opener.count) this.unlink(opener);
      } else {
        floors.set(kind, closer.prev);
        if (!closer.canOpen) this.unlink(closer);
      }
      if (!opener) closer = next;
      else if (!closer.count) {
        this.unlink(closer);
        closer = next;
      }
    }
    let open = Infinity;
    for (let run = this.newest; run && run !== bottom; run = run.prev) if (run.canOpen) open = run.at;
    this.newest = bottom;
    if (bottom) bottom.next = null;
    return open;
  }

  firstAbove(bottom) {
    let first = null;
    for (let run = this.newest; run && run !== bottom; run = run.prev) first = run;
    return first;
  }

  unlink(run) {
    if (run.prev) run.prev.next = run.next;
    if (run.next) run.next.prev = run.prev;
    if (this.newest === run) this.newest = run.prev;
  }
}

function findOpener(closer, bottom, floor) {
  for (let run = closer.prev; run && run !== bottom && run !== floor; run = run.prev) {
    if (run.sign !== closer.sign || !run.canOpen) continue;
    const odd = (closer.canOpen || run.canClose) && closer.size % 3 !== 0 && (run.size + closer.size) % 3 === 0;
    if (!odd) return run;
  }
  return null;
}

function pair(opener, closer) {
  const used = opener.count > 1 && closer.count > 1 ? 2 : 1;
  opener.count -= used;
  closer.count -= used;
  opener.opens.unshift(used);
  closer.closes.push(used);
}
