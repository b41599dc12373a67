/**
 * Requests to the service, its errors, and the token. The token is kept in this tab's session
 * storage only, and sent in a header only.
 */

const TOKEN = "rag-assets.token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** An error of the service; `retryAfter` is in seconds, 0 if repeating the request is of no use. */
class Failure extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message ?? `The service answered with ${status}.`);
    Object.assign(this, { status, requestId: error?.request_id, retryAfter });
  }
}

/** Asks the service; with a body by POST. */
async function ask(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  const sent = { headers, signal, credentials: "omit", cache: "no-store" };
  if (body) Object.assign(sent, { method: "POST", body: JSON.stringify(body) });
  const response = await fetch(`v1/${path}`, sent).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, { message: "The service does not respond." }, 2);
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const seconds = Number(response.headers.get("Retry-After")) || 1;
  throw new Failure(
    response.status, answer.error, [429, 503].includes(response.status) ? seconds : 0,
  );
}

/** Asks until the service is neither busy nor starting; `waiting` is told why, and how long. */
export async function askPatiently(path, body, signal, waiting) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask(path, body, signal);
    } catch (failure) {
      if (!failure.retryAfter) throw failure;
      const seconds = failure.retryAfter * Math.min(attempt, 5);
      waiting(failure, seconds);
      await new Promise((resolve, reject) => {
        setTimeout(resolve, 1000 * seconds);
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    }
  }
}
