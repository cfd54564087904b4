// Compiled, not run: what a TypeScript program does with the types that openapi-typescript makes from the document.
import type { components, operations, paths } from "./shed";

type Session = components["schemas"]["Session"];
type Problem = components["schemas"]["Problem"];
type Answer<O extends keyof operations, S extends keyof operations[O]["responses"]> =
  operations[O]["responses"][S] extends { content: { "application/json": infer T } } ? T : never;

export function running(list: Answer<"sessions_all", 200>): Session[] {
  return list.sessions.filter((session) => session.status === "running");
}

export function advice(problem: Problem): string {
  return problem.code === "shed-not-found" ? "shed list" : (problem.hint ?? problem.detail);
}

// Every operation declares its problems.
type Declared = { [O in keyof operations]: operations[O]["responses"] extends { default: { content: { "application/problem+json": Problem } } } ? never : O };
export const undeclared: Declared[keyof operations][] = [];
export const none: never[] = undeclared;

export const request: NonNullable<operations["sessions_create"]["requestBody"]>["content"]["application/json"] = { name: "fix", type: "worktree" };

// An event of the watch is text that is JSON.
type Watched = paths["/api/sessions/watch"]["get"]["responses"][200]["content"]["text/event-stream"];
export const sessions = (event: Watched): Answer<"sessions_all", 200> => JSON.parse(event.data);
