/** A kernel's exports: functions over byte offsets in its linear memory. */
export type KernelExports<Functions> = Functions & { readonly memory: WebAssembly.Memory };

const modules = new Map<string, WebAssembly.Module>();

/**
 * An instance of its own, with a memory of its own, of a kernel in `generated/`. Compiled once in each thread. WebAssembly's
 * SIMD rounds the same on every processor, so results are the same bits everywhere.
 */
export function instantiate<Functions>(base64: string): KernelExports<Functions> {
  let module = modules.get(base64);
  if (!module) {
    module = new WebAssembly.Module(Buffer.from(base64, 'base64'));
    modules.set(base64, module);
  }
  return new WebAssembly.Instance(module, {}).exports as unknown as KernelExports<Functions>;
}

const PAGE_BYTES = 65_536;
/** What the compiler leaves free at the start; constants of a kernel, where it has any, follow. */
const FIRST_BYTE = 64;
const ALIGNMENT = 64;

/** Lays arrays out one after another in a kernel's memory, which grows as it has to. */
export class Layout {
  private next: number;

  /** @param first the first byte after the kernel's constants, `__heap_base` in AssemblyScript */
  constructor(
    private readonly memory: WebAssembly.Memory,
    first = FIRST_BYTE,
  ) {
    this.next = Math.ceil(first / ALIGNMENT) * ALIGNMENT;
  }

  /** @returns the offset of so many bytes, which nothing else will get */
  reserve(bytes: number): number {
    const offset = this.next;
    this.next = Math.ceil((offset + bytes) / ALIGNMENT) * ALIGNMENT;
    const missing = this.next - this.memory.buffer.byteLength;
    // Views of the memory made before it grows are of no use afterwards.
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE_BYTES));
    return offset;
  }

  /** Where the next reservation begins, for {@link release}. */
  mark(): number {
    return this.next;
  }

  /** Gives back all that was reserved since a mark. The memory keeps its size, for what is reserved next. */
  release(mark: number): void {
    this.next = mark;
  }
}
