/*
 * A partner's program, as it would be written from docs/openapi.yaml:
 *
 *     node client.js URL KEY read|busy|write
 *
 * reads, reads three times at once, or writes, and prints what came of it as
 * JSON.  A line on its standard input makes it give up the try it is at.
 * openapi-typescript makes schema.d.ts of the document; t/test_clients.py
 * compiles and runs this.
 */

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Failure = components["schemas"]["Error"];
type Code = components["schemas"]["ErrorCode"];

const TRIES = 5;

const [url, key, what] = process.argv.slice(2) as [string, string, string];

let tries = 0;
const waited: number[] = [];
let attempt = new AbortController();

process.stdin.on("data", () => attempt.abort());

const sleep = (seconds: number) =>
    new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/* Whether it may be sent twice: a read may, and a write that has a key. */
const safe = (request: Request) =>
    request.method === "GET" || request.headers.has("Idempotency-Key");

/*
 * fetch() that tries again as docs/errors.md has it: after Retry-After where
 * the error is retryable, and where no answer came at all.
 */
async function persistent(request: Request): Promise<Response> {
    for (let n = 1; ; n++) {
        const last = n === TRIES || !safe(request);
        attempt = new AbortController();
        const once = new Request(request.clone(), { signal: attempt.signal });
        tries++;

        let response: Response;
        try {
            response = await fetch(once);
        } catch (error) {
            if (last) {
                throw error;
            }
            continue;
        }

        if (response.ok || last) {
            return response;
        }

        const failure = await response.clone().json() as Failure;
        if (!failure.error.retryable) {
            return response;
        }

        const after = Number(response.headers.get("Retry-After"));
        waited.push(after);
        await sleep(after);
    }
}

const api = createClient<paths>({
    baseUrl: url,
    headers: { Authorization: `Bearer ${key}` },
    fetch: persistent,
});

const idempotent = (key: string) =>
    ({ params: { header: { "Idempotency-Key": key } }, body: { id: "a" } });

/* What to tell a person; a code that is added is a reason to compile again. */
function advice(failure: Failure): string {
    const { code, details } = failure.error;

    switch (code as Code) {
    case "forbidden":
        return `ask for the scope ${details?.requiredScope}`;
    case "idempotency_outcome_unknown":
        return `look what became of ${details?.originalRequestId}`;
    default:
        return failure.error.message;
    }
}

function report(response: Response, data: unknown, error?: Failure) {
    console.log(JSON.stringify({
        status: response.status, tries, waited, data,
        code: error?.error.code, requestId: error?.requestId,
        advice: error && advice(error),
        replayed: response.headers.get("Idempotent-Replayed"),
        left: response.headers.get("RateLimit"),
    }));
}

const read = async () => {
    const { data, error, response } = await api.GET("/v1/loads");
    report(response, data?.data, error);
};

if (what === "write") {
    const { data, error, response } = await api.POST("/v1/loads",
        idempotent(`order-${process.pid}`));
    report(response, data?.requestId, error);
} else {
    await Promise.all(what === "busy" ? [read(), read(), read()] : [read()]);
}

process.stdin.destroy();

/* What the document does not allow does not compile. */
export async function refused() {
    // @ts-expect-error a write that asks for it has an Idempotency-Key
    await api.POST("/v1/loads", { body: {} });
    // @ts-expect-error no such path
    await api.GET("/v1/load");
    // @ts-expect-error no such method
    await api.PUT("/v1/loads", {});
    // @ts-expect-error no id
    await api.GET("/v1/loads/{id}", {});
    const { data, error } = await api.GET("/v1/customers");
    // @ts-expect-error data is there only where there is no error
    data.data;
    // @ts-expect-error an error has no such member
    error?.error.reason;
    // @ts-expect-error no such code
    const code: Code = "rate_limit";
    const codes: Code[] = ["rate_limited", "idempotency_in_progress"];
    return [code, codes];
}
