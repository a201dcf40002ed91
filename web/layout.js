// How many columns of cameras: as few as let every picture be as large as possible without scrolling, or, where that would
// make them too small, as many as stay large enough.

// Narrower than this, a tile's figures do not fit.
export const MIN_TILE = 300;

const GAP = 12;
const ASPECT = 16 / 9;

// `width` and `height` are the room for all tiles, `foot` the height of what stands below each picture; in CSS pixels.
// Returns the number of columns and the width of each.
export function layOut(count, { width, height, foot }) {
  let best = null;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const byWidth = (width - (columns - 1) * GAP) / columns;
    const byHeight = ((height - (rows - 1) * GAP) / rows - foot) * ASPECT;
    const tile = Math.min(byWidth, byHeight);
    if (tile >= MIN_TILE && (!best || tile > best.tile)) best = { columns, tile };
  }
  if (best) return { columns: best.columns, tileWidth: Math.floor(best.tile) };
  const columns = Math.max(1, Math.min(count, Math.floor((width + GAP) / (MIN_TILE + GAP))));
  return { columns, tileWidth: Math.floor((width - (columns - 1) * GAP) / columns) };
}
