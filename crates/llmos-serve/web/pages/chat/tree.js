// A conversation is a tree: another wording of a question, or another try at an answer, is a sibling.

/** Messages by number, and the numbers of each one's answers (null: the beginnings), in order. */
export function grow(messages) {
  const byNumber = new Map(messages.map((message) => [message.number, message]));
  const children = new Map();
  for (const { number, parent } of messages) {
    const siblings = children.get(parent ?? null) ?? [];
    siblings.push(number);
    children.set(parent ?? null, siblings);
  }
  for (const numbers of children.values()) numbers.sort((a, b) => a - b);
  return { byNumber, children };
}

/** The messages from the beginning to `leaf`. */
export function branch({ byNumber }, leaf) {
  const path = [];
  for (let at = byNumber.get(leaf); at; at = byNumber.get(at.parent)) path.push(at);
  return path.reverse();
}

/** Where the message stands among those that follow the same one: its siblings, itself included. */
export function siblings({ byNumber, children }, number) {
  return children.get(byNumber.get(number)?.parent ?? null) ?? [number];
}

/** The newest message that comes of this one, at whatever distance: the end of its newest branch. */
export function newest({ children }, number) {
  let last = number;
  const open = [number];
  while (open.length) {
    const at = open.pop();
    last = Math.max(last, at);
    open.push(...(children.get(at) ?? []));
  }
  return last;
}
