import { bytes } from './wasm/generated/cosine.js';

/** Of wasm/cosine.as.ts. */
interface CosineKernel {
  readonly memory: WebAssembly.Memory;
  cosine(
    images: number,
    imageCount: number,
    texts: number,
    textCount: number,
    width: number,
    scale: number,
    out: number,
  ): void;
}

const IMAGES_PER_RUN = 1024;
const TEXTS_PER_RUN = 128;
const FIRST_BYTE = 64;
const PAGE_BYTES = 65_536;

/**
 * Cosine logits of every image against every class text: `out[i, j] = scale · Σ_k images[i, k] · texts[j, k]`, for
 * L2-normalised rows of `width` numbers. Every element is summed in the same order in double precision, so it does not
 * depend on where its row or column stands, nor on the machine.
 */
export class CosineLogits {
  private readonly kernel: CosineKernel;
  private readonly images: Float64Array;
  private readonly texts: Float64Array;
  private readonly block: Float32Array;
  /** The images that the kernel's memory holds, from which row on. */
  private loaded: { images: Float32Array; start: number } | null = null;

  constructor(
    private readonly width: number,
    private readonly scale: number,
  ) {
    const module = new WebAssembly.Module(Buffer.from(bytes, 'base64'));
    this.kernel = new WebAssembly.Instance(module, {}).exports as unknown as CosineKernel;
    const texts = FIRST_BYTE + IMAGES_PER_RUN * width * Float64Array.BYTES_PER_ELEMENT;
    const block = texts + TEXTS_PER_RUN * width * Float64Array.BYTES_PER_ELEMENT;
    const end = block + IMAGES_PER_RUN * TEXTS_PER_RUN * Float32Array.BYTES_PER_ELEMENT;
    this.kernel.memory.grow(Math.ceil(end / PAGE_BYTES));
    const { buffer } = this.kernel.memory;
    this.images = new Float64Array(buffer, FIRST_BYTE, IMAGES_PER_RUN * width);
    this.texts = new Float64Array(buffer, texts, TEXTS_PER_RUN * width);
    this.block = new Float32Array(buffer, block, IMAGES_PER_RUN * TEXTS_PER_RUN);
  }

  /**
   * @param images [N, width]; must not change between two calls with the same array
   * @param texts [C, width]
   * @param out receives [N, C], row-major
   */
  compute(images: Float32Array, texts: Float32Array, out: Float32Array): void {
    const { width } = this;
    const imageCount = images.length / width;
    const textCount = texts.length / width;
    for (let first = 0; first < imageCount; first += IMAGES_PER_RUN) {
      const rows = Math.min(IMAGES_PER_RUN, imageCount - first);
      this.load(images, first, rows);
      for (let start = 0; start < textCount; start += TEXTS_PER_RUN) {
        const columns = Math.min(TEXTS_PER_RUN, textCount - start);
        const stride = this.run(rows, texts.subarray(start * width, (start + columns) * width));
        for (let i = 0; i < rows; i++) {
          const row = this.block.subarray(i * stride, i * stride + columns);
          out.set(row, (first + i) * textCount + start);
        }
      }
    }
  }

  private load(images: Float32Array, start: number, rows: number): void {
    if (this.loaded?.images === images && this.loaded.start === start) return;
    this.images.set(images.subarray(start * this.width, (start + rows) * this.width));
    this.loaded = { images, start };
  }

  /** @returns how far apart the rows of the result are */
  private run(rows: number, texts: Float32Array): number {
    const { width } = this;
    const columns = texts.length / width;
    const stride = Math.ceil(columns / 4) * 4;
    for (let j = 0; j < columns; j++) {
      for (let k = 0; k < width; k++) this.texts[k * stride + j] = texts[j * width + k];
    }
    const { images, texts: transposed, block } = this;
    this.kernel.cosine(images.byteOffset, rows, transposed.byteOffset, stride, width, this.scale, block.byteOffset);
    return stride;
  }
}

/** Scales each row of `width` numbers to length 1, in place. A row of zeros stays as it is. */
export function normaliseRows(rows: Float32Array, width: number): void {
  for (let start = 0; start < rows.length; start += width) {
    let squares = 0;
    for (let k = start; k < start + width; k++) squares += rows[k] * rows[k];
    if (squares === 0) continue;
    const factor = 1 / Math.sqrt(squares);
    for (let k = start; k < start + width; k++) rows[k] *= factor;
  }
}
