// Adds to an agent's settings what a key in the environment would make it ask about at its start, and what a container needs. Changes
// nothing that is there, and nothing in a file that is not plain JSON.
//   node seed.js claude|gemini
const fs = require('node:fs');
const path = require('node:path');
const { env } = process;

// add(FILE, CHANGE)   CHANGE gets the settings and says whether it changed them. The file is replaced as a whole.
function add(file, change) {
  let settings = {};
  try {
    settings = JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code !== 'ENOENT') return;
  }
  if (!change(settings)) return;
  const draft = `${file}.${process.pid}`;
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(draft, JSON.stringify(settings, null, 2), { mode: 0o600 });
  fs.renameSync(draft, file);
}

function claude() {
  const key = env.ANTHROPIC_API_KEY;
  add(path.join(env.CLAUDE_CONFIG_DIR || env.HOME, '.claude.json'), (settings) => {
    const before = JSON.stringify(settings);
    settings.hasCompletedOnboarding ??= true;
    if (key) {
      const answers = (settings.customApiKeyResponses ??= {});
      const [approved, rejected] = [(answers.approved ??= []), (answers.rejected ??= [])];
      const end = key.slice(-20);
      if (!approved.includes(end) && !rejected.includes(end)) approved.push(end);
    }
    return JSON.stringify(settings) !== before;
  });
}

function gemini() {
  const file = path.join(env.GEMINI_CLI_HOME || env.HOME, '.gemini', 'settings.json');
  add(file, (settings) => {
    const before = JSON.stringify(settings);
    // Gemini would set the heap of node to half of the host's memory. Node itself goes by the limit of the container.
    (settings.advanced ??= {}).autoConfigureMemory ??= false;
    if (env.GEMINI_API_KEY) ((settings.security ??= {}).auth ??= {}).selectedType ??= 'gemini-api-key';
    return JSON.stringify(settings) !== before;
  });
}

({ claude, gemini })[process.argv[2]]();
