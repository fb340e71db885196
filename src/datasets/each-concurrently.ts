/**
 * Runs `work` on every item of a generator, at most `concurrency` at a time. After the first failure no further item is
 * started; what is under way is awaited and the generator closed before the failure is thrown.
 */
export async function eachConcurrently<Item>(
  items: AsyncGenerator<Item>,
  concurrency: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  const lane = async () => {
    try {
      while (failures.length === 0) {
        const next = await items.next();
        if (next.done) return;
        await work(next.value);
      }
    } catch (error) {
      failures.push(error);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  await items.return(undefined);
  if (failures.length > 0) throw failures[0];
}
