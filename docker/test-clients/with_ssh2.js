// One action with node's ssh2; see run.py for the arguments.
const { readFileSync } = require('fs');
const { Client } = require('ssh2');

const [json, action, ...words] = process.argv.slice(2);
const target = JSON.parse(json);
const client = new Client();
const fail = (error) => { console.error(String(error)); process.exit(255); };
const done = (error) => (error ? fail(error) : client.end());

client.on('error', fail).on('ready', () => {
  if (action === 'exec' || action === 'pty') {
    const options = action === 'pty' ? { pty: { cols: 101, rows: 33, term: 'xterm' } } : {};
    client.exec(words[0], options, (error, stream) => {
      if (error) return fail(error);
      stream.stderr.pipe(process.stderr);
      stream.pipe(process.stdout);
      stream.on('close', (code) => { process.exitCode = code ?? 255; client.end(); });
      if (action === 'exec') process.stdin.pipe(stream);
    });
  } else if (action === 'forward') {
    client.forwardOut('127.0.0.1', 0, '127.0.0.1', Number(words[0]), (error, stream) => {
      if (error) return fail(error);
      stream.pipe(process.stdout);
      stream.on('end', () => client.end());
    });
  } else {
    client.sftp((error, sftp) => {
      if (error) return fail(error);
      ({ put: () => sftp.fastPut(...words, done), get: () => sftp.fastGet(...words, done), symlink: () => sftp.symlink(...words, done) })[action]();
    });
  }
}).connect({ host: target.host, port: target.port, username: target.user, privateKey: readFileSync(target.key) });
