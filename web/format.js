// Figures as people read them. Unknown ones are a dash.

const UNKNOWN = "–";

export const bitrate = known((bps) => (bps >= 999_500 ? `${(bps / 1e6).toFixed(1)} Mb/s` : `${Math.round(bps / 1000)} kb/s`));
export const milliseconds = known((ms) => `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`);
// Browsers tell it in whole milliseconds.
export const roundTrip = known((ms) => (ms < 1 ? "<1 ms" : milliseconds(ms)));
export const rate = known((fps) => `${fps.toFixed(fps < 9.95 ? 1 : 0)} fps`);
export const percent = known((ratio) => `${(ratio * 100).toFixed(ratio > 0 && ratio < 0.0995 ? 1 : 0)} %`);
export const count = known((number) => number.toLocaleString("en-US"));

// Two of a kind, such as median and 95th percentile, with one unit: "8.2/11 ms".
export function millisecondsPair(a, b) {
  if (a === null || a === undefined || b === null || b === undefined) return UNKNOWN;
  return `${milliseconds(a).replace(/ ms$/, "")}/${milliseconds(b)}`;
}

export function resolution(width, height) {
  return width && height ? `${width}×${height}` : UNKNOWN;
}

export function seconds(s) {
  if (s < 100) return `${Math.round(s)} s`;
  return s < 6000 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

function known(format) {
  return (value) => (value === null || value === undefined || !Number.isFinite(value) ? UNKNOWN : format(value));
}
