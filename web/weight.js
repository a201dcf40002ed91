// A slider for weights: off at its start, then from a tenth to ten, each step the same factor. What counts of weights is their
// ratio, so the middle is 1 and as far from 10 as from 0.1.

const STEPS_PER_DECADE = 20;
const MIN = 0.1;

// The slider's last position; its first is 0.
export const LAST_POSITION = 1 + 2 * STEPS_PER_DECADE;

// The weight at a position, to two digits.
export function weightAt(position) {
  return position <= 0 ? 0 : Number((MIN * 10 ** ((position - 1) / STEPS_PER_DECADE)).toPrecision(2));
}

// The position nearest to a weight. Only 0 is off, however small a weight is.
export function positionOf(weight) {
  if (!(weight > 0)) return 0;
  return Math.min(LAST_POSITION, Math.max(1, 1 + Math.round(STEPS_PER_DECADE * Math.log10(weight / MIN))));
}
