// Reads the code that the pattern camera burns into its pictures: docs/burn-in.md is its specification.
//
// `watch` runs in the page. It keeps no pictures, only what was read of each.

// What is burnt into the top left corner of a picture of width × height: { number, capturedUnixMs }, or null if it cannot
// be read. `pixels` is an ImageData of that corner. Needs nothing around it: it is sent into pages as text.
export function readBurnIn(pixels, width, height) {
  const wanted = Math.max(8, 4 * Math.floor(width / 320));
  const room = Math.min(Math.floor(width / 16), Math.floor(height / 6));
  const side = 4 * Math.floor(Math.min(wanted, room) / 4);
  if (side < 4) return null;
  const edge = Math.floor(side / 4);
  const bits = [];
  for (let row = 0; row < 6; row++) {
    for (let column = 0; column < 16; column++) {
      let sum = 0;
      let count = 0;
      for (let y = row * side + edge; y < (row + 1) * side - edge; y++) {
        for (let x = column * side + edge; x < (column + 1) * side - edge; x++) {
          const at = 4 * (y * pixels.width + x);
          sum += (pixels.data[at] + pixels.data[at + 1] + pixels.data[at + 2]) / 3;
          count += 1;
        }
      }
      const mean = sum / count;
      if (Math.abs(mean - 128) < 28) return null;
      bits.push(mean > 128 ? 1 : 0);
    }
  }
  const number = (from, to) => bits.slice(from, to).reduce((value, bit) => value * 2 + bit, 0);
  let crc = 0xffff;
  for (let at = 0; at < 80; at += 8) {
    crc ^= number(at, at + 8) << 8;
    for (let step = 0; step < 8; step++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc === number(80, 96) ? { number: number(0, 32), capturedUnixMs: number(32, 80) } : null;
}

// Begins to read every picture that `camera`'s tile shows, from now on.
export async function watchBurnIn(page, camera) {
  await page.evaluate(`(${watch})(${JSON.stringify(camera)}, ${readBurnIn})`);
}

// What has been read since `watchBurnIn`, in the order of the pictures: { number, capturedUnixMs } of the code, null where it
// could not be read; `readUnixMs`, the wall clock when it was on the canvas; `rtpTimestamp` of the frame the browser
// announced, and whether that is the one on the canvas: when the page is late, it may be a newer one.
export async function picturesRead(page) {
  const pictures = await page.evaluate(() => window.burnIn.pictures);
  const readable = pictures.filter(({ number }) => number !== null);
  if (readable.length === 0) return pictures;
  // Where the stream's clock had its zero, by each picture; most agree.
  const zeros = readable.map(({ capturedUnixMs, rtpTimestamp }) => capturedUnixMs - sinceFirst(rtpTimestamp, readable[0].rtpTimestamp) / 90);
  const zero = zeros.toSorted((a, b) => a - b)[Math.floor(zeros.length / 2)];
  readable.forEach((picture, index) => {
    picture.isAnnounced = Math.abs(zeros[index] - zero) < 2;
  });
  return pictures;
}

// Ticks between two timestamps, which wrap at 32 bits.
function sinceFirst(rtpTimestamp, first) {
  return (rtpTimestamp - first) | 0;
}

function watch(camera, readBurnIn) {
  const video = document.querySelector(`[data-camera="${camera}"] video`);
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  const pictures = [];
  window.burnIn = { pictures };
  const read = (now, { rtpTimestamp, width, height }) => {
    video.requestVideoFrameCallback(read);
    const [codeWidth, codeHeight] = [Math.ceil(width / 5), Math.ceil((width / 5 / 16) * 6)];
    if (canvas.width !== codeWidth) [canvas.width, canvas.height] = [codeWidth, codeHeight];
    context.drawImage(video, 0, 0, codeWidth, codeHeight, 0, 0, codeWidth, codeHeight);
    const pixels = context.getImageData(0, 0, codeWidth, codeHeight);
    const readUnixMs = performance.timeOrigin + performance.now();
    const { number, capturedUnixMs } = readBurnIn(pixels, width, height) ?? { number: null, capturedUnixMs: null };
    pictures.push({ number, capturedUnixMs, readUnixMs, rtpTimestamp });
  };
  video.requestVideoFrameCallback(read);
}
