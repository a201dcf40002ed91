// Writes into the page only what differs: the rest of it need not be laid out anew.

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function set(dataset, name, value) {
  if (dataset[name] !== value) dataset[name] = value;
}

// Elements below `element` by the name in their attribute `data-part`.
export function partsOf(element) {
  return Object.fromEntries([...element.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
}
