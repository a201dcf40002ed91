// A small moving picture in Y4M, for cameras that read a file.

export function y4m({ width = 160, height = 120, fps = 15, frames = 30 } = {}) {
  const chunks = [Buffer.from(`YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C420jpeg\n`)];
  for (let frame = 0; frame < frames; frame++) {
    const picture = Buffer.alloc((width * height * 3) / 2, 128);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) picture[y * width + x] = (x * 2 + y + frame * 8) & 0xff;
    }
    chunks.push(Buffer.from("FRAME\n"), picture);
  }
  return Buffer.concat(chunks);
}
