// Makes a container in the emulator: node create-container.mjs PORT CONTAINER
//
// The emulator's account and key are the same everywhere, and published.
import { createHmac } from "node:crypto";

const [port, container] = process.argv.slice(2);
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2023-11-03" };
const canonical = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`).join("");
// The account stands twice: as the owner, and as the first part of the emulator's path.
const resource = `/${account}/${account}/${container}\nrestype:container`;
const signed = createHmac("sha256", Buffer.from(key, "base64"))
  .update(`PUT${"\n".repeat(12)}${canonical}${resource}`)
  .digest("base64");
headers.authorization = `SharedKey ${account}:${signed}`;

const url = `http://127.0.0.1:${port}/${account}/${container}?restype=container`;
const answer = await fetch(url, { method: "PUT", headers });
if (answer.status !== 201) {
  console.error(answer.status, await answer.text());
  process.exit(1);
}
