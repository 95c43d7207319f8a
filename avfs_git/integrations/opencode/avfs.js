// Written by `avfs setup opencode`: runs `avfs hook opencode` at the events of opencode.
// avfs answers a command that the policy refuses, or that it cannot ask the policy about; at all else it says nothing. If avfs itself
// is broken, the tool goes on, and the log and the screen say why. Where there is no avfs, it goes on, too.
import { spawn } from "node:child_process"

const READS = new Set(["read", "grep", "glob", "list", "lsp", "webfetch", "websearch", "codesearch", "todoread", "todowrite", "skill", "question"])
const LIMIT_MS = 30_000
const REFUSED = 2

function run(event) {
  return new Promise((resolve) => {
    const child = spawn("avfs", ["hook", "opencode"], { timeout: LIMIT_MS })
    let answer = ""
    let said = ""
    child.stdout.setEncoding("utf8").on("data", (text) => (answer += text))
    child.stderr.setEncoding("utf8").on("data", (text) => (said += text))
    child.on("error", (error) => resolve({ answer: "", said: `avfs hook: ${error.message}`, refused: false }))
    child.on("close", (status, signal) => {
      const failed = status !== 0
      resolve({ answer: failed ? "" : answer, said: said.trim() || (failed ? `avfs hook: ended with ${signal ?? status}` : ""), refused: status === REFUSED })
    })
    child.stdin.on("error", () => {}).end(JSON.stringify(event))
  })
}

export const AvfsPlugin = async ({ client, directory }) => {
  const begun = new Set()

  async function tell(name, session, more = {}) {
    const { answer, said, refused } = await run({ hook_event_name: name, session_id: session, cwd: directory, ...more })
    if (said) {
      await client.app.log({ body: { service: "avfs", level: "error", message: said } }).catch(() => {})
      await client.tui.showToast({ body: { title: "avfs", message: said, variant: "error" } }).catch(() => {})
    }
    return { answer, refusal: refused ? said : "" }
  }

  function describe({ tool, callID }, args) {
    return { tool_name: tool, tool_use_id: callID, tool_input: args ?? {} }
  }

  return {
    "chat.message": async ({ sessionID }) => {
      if (begun.has(sessionID)) return
      begun.add(sessionID)
      await tell("session.start", sessionID)
    },
    "tool.execute.before": async (input, output) => {
      if (input.tool !== "bash") return
      const { answer, refusal } = await tell("tool.execute.before", input.sessionID, describe(input, output.args))
      if (answer || refusal) throw new Error(refusal || JSON.parse(answer).reason)
    },
    "tool.execute.after": async (input) => {
      if (!READS.has(input.tool)) await tell("tool.execute.after", input.sessionID, describe(input, input.args))
    },
    event: async ({ event }) => {
      if (event.type === "session.idle") await tell("session.idle", event.properties.sessionID)
    },
  }
}
