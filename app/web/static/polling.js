// Looking again until something has ended.

const SECONDS = 1.5;

/** Call `look` until it says that it has seen the end; a hidden page waits. */
export async function poll(look) {
  while (!(await look())) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * SECONDS));
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
  }
}
