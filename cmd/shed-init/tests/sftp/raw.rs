//! A client that sends any packets and checks that replies arrive in order.

use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shed-init");

pub(crate) const OPEN: u8 = 3;
pub(crate) const CLOSE: u8 = 4;
pub(crate) const READ: u8 = 5;
pub(crate) const WRITE: u8 = 6;
pub(crate) const LSTAT: u8 = 7;
pub(crate) const FSTAT: u8 = 8;
pub(crate) const SETSTAT: u8 = 9;
pub(crate) const FSETSTAT: u8 = 10;
pub(crate) const OPENDIR: u8 = 11;
pub(crate) const READDIR: u8 = 12;
pub(crate) const REMOVE: u8 = 13;
pub(crate) const MKDIR: u8 = 14;
pub(crate) const RMDIR: u8 = 15;
pub(crate) const REALPATH: u8 = 16;
pub(crate) const STAT: u8 = 17;
pub(crate) const RENAME: u8 = 18;
pub(crate) const READLINK: u8 = 19;
pub(crate) const SYMLINK: u8 = 20;
pub(crate) const EXTENDED: u8 = 200;

pub(crate) const OK: u32 = 0;
pub(crate) const EOF: u32 = 1;
pub(crate) const NO_SUCH_FILE: u32 = 2;
pub(crate) const PERMISSION_DENIED: u32 = 3;
pub(crate) const FAILURE: u32 = 4;
pub(crate) const BAD_MESSAGE: u32 = 5;
pub(crate) const UNSUPPORTED: u32 = 8;

pub(crate) const NO_ATTRIBUTES: Field<'static> = Field::Number(0);

/// A field of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Field<'a> {
    String(&'a [u8]),
    Number(u32),
    Long(u64),
}

pub(crate) fn text(text: &str) -> Field<'_> {
    Field::String(text.as_bytes())
}

/// Encodes a packet without its length.
pub(crate) fn packet(kind: u8, id: u32, fields: &[Field<'_>]) -> Vec<u8> {
    let mut packet = vec![kind];
    packet.extend(id.to_be_bytes());
    for field in fields {
        match field {
            Field::String(string) => packet.extend(framed(string)),
            Field::Number(number) => packet.extend(number.to_be_bytes()),
            Field::Long(number) => packet.extend(number.to_be_bytes()),
        }
    }
    packet
}

/// Encodes bytes with their length before them.
pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(u32),
    Handle(Vec<u8>),
    Data(Vec<u8>),
    /// Names with their listing lines.
    Names(Vec<(Vec<u8>, Vec<u8>)>),
    Attributes(Attributes),
    Extended(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) modified_at: u32,
}

/// The rest of a reply, from which fields are read.
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) fn number(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    pub(crate) fn string(&mut self) -> &'a [u8] {
        let n_bytes = self.number() as usize;
        self.take(n_bytes)
    }

    fn take(&mut self, n_bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n_bytes);
        self.0 = rest;
        taken
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.number();
        assert!(flags == 0 || flags == 0xf, "all attributes or none");
        (flags != 0).then(|| {
            let size = self.long();
            self.take(8);
            let mode = self.number();
            self.take(4);
            Attributes { size, mode, modified_at: self.number() }
        })
    }
}

/// A server in a temporary directory, and the client's end of the connection.
pub(crate) struct Client {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
    dir: tempfile::TempDir,
    next_id: u32,
}

impl Client {
    /// A server after INIT.
    pub(crate) fn start() -> Self {
        let mut client = Self::start_silent();
        client.greet();
        client
    }

    pub(crate) fn start_silent() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let command = Command::new(PROGRAM);
        Self::spawn(command, dir)
    }

    /// A server that does not run as root, who may access every file.
    pub(crate) fn start_unprivileged() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if !std::fs::metadata("/proc/self").is_ok_and(|own| is_root(&own)) {
            let mut client = Self::spawn(Command::new(PROGRAM), dir);
            client.greet();
            return client;
        }
        // The program is copied, since the build directory may not be accessible to other users. Another process copies it:
        // a descriptor that is open for writing here would be inherited by children of other threads, and the kernel refuses
        // to execute a file that is open for writing.
        let program = dir.path().join("shed-init");
        assert!(Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap().success());
        open_to_all(dir.path(), 0o777);
        open_to_all(&program, 0o755);
        let mut command = Command::new(program);
        command.uid(65_534).gid(65_534);
        let mut client = Self::spawn(command, dir);
        client.greet();
        client
    }

    fn spawn(mut command: Command, dir: tempfile::TempDir) -> Self {
        let mut child = command
            .arg("sftp")
            .current_dir(dir.path())
            .env_clear()
            .env("HOME", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdin, stdout, dir, next_id: 100 }
    }

    /// The path of `name` outside of the server; an empty name is the directory itself.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().canonicalize().unwrap();
        if name.is_empty() { dir } else { dir.join(name) }
    }

    /// The same as bytes.
    pub(crate) fn remote(&self, name: &str) -> Vec<u8> {
        self.path(name).as_os_str().as_bytes().to_vec()
    }

    pub(crate) fn greet(&mut self) -> Vec<u8> {
        self.send(&[1, 0, 0, 0, 3]);
        self.receive_raw()
    }

    pub(crate) fn send(&mut self, packet: &[u8]) {
        self.send_raw(&framed(packet));
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn receive_raw(&mut self) -> Vec<u8> {
        let stdout = self.stdout.as_mut().unwrap();
        let mut length = [0; 4];
        stdout.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u32::from_be_bytes(length) as usize];
        stdout.read_exact(&mut reply).unwrap();
        reply
    }

    /// Reads the next reply, which must have this id.
    pub(crate) fn receive(&mut self, id: u32) -> Reply {
        let reply = self.receive_raw();
        let mut rest = Rest(&reply[1..]);
        assert_eq!(rest.number(), id);
        match reply[0] {
            101 => Reply::Status(rest.number()),
            102 => Reply::Handle(rest.string().to_vec()),
            103 => Reply::Data(rest.string().to_vec()),
            104 => {
                let n_names = rest.number();
                let mut names = Vec::new();
                for _ in 0..n_names {
                    names.push((rest.string().to_vec(), rest.string().to_vec()));
                    rest.attributes();
                }
                Reply::Names(names)
            }
            105 => Reply::Attributes(rest.attributes().unwrap()),
            201 => Reply::Extended(rest.0.to_vec()),
            kind => panic!("a reply of kind {kind}"),
        }
    }

    /// Sends a request and waits for the reply.
    pub(crate) fn ask(&mut self, kind: u8, fields: &[Field<'_>]) -> Reply {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&packet(kind, id, fields));
        self.receive(id)
    }

    pub(crate) fn extended(&mut self, name: &str, fields: &[Field<'_>]) -> Reply {
        self.ask(EXTENDED, &[&[text(name)], fields].concat())
    }

    pub(crate) fn status(&mut self, kind: u8, fields: &[Field<'_>]) -> u32 {
        match self.ask(kind, fields) {
            Reply::Status(status) => status,
            reply => panic!("no status but {reply:?}"),
        }
    }

    /// Opens a file. The flags are those of the protocol: 1 read, 2 write, 4 append, 8 create, 16 truncate.
    pub(crate) fn open(&mut self, path: &[u8], flags: u32) -> Vec<u8> {
        match self.ask(OPEN, &[Field::String(path), Field::Number(flags), NO_ATTRIBUTES]) {
            Reply::Handle(handle) => handle,
            reply => panic!("no handle but {reply:?}"),
        }
    }

    pub(crate) fn read(&mut self, handle: &[u8], offset: u64, n_bytes: u32) -> Reply {
        self.ask(READ, &[Field::String(handle), Field::Long(offset), Field::Number(n_bytes)])
    }

    pub(crate) fn write(&mut self, handle: &[u8], offset: u64, data: &[u8]) -> u32 {
        self.status(WRITE, &[Field::String(handle), Field::Long(offset), Field::String(data)])
    }

    /// Sends a request and returns the only name of the reply.
    pub(crate) fn name(&mut self, kind: u8, path: &[u8]) -> Vec<u8> {
        match self.ask(kind, &[Field::String(path)]) {
            Reply::Names(names) if names.len() == 1 => names[0].0.clone(),
            reply => panic!("no name but {reply:?}"),
        }
    }

    pub(crate) fn attributes(&mut self, kind: u8, of: &[u8]) -> Attributes {
        match self.ask(kind, &[Field::String(of)]) {
            Reply::Attributes(attributes) => attributes,
            reply => panic!("no attributes but {reply:?}"),
        }
    }

    /// All entries of a directory with their lines, as one list per reply.
    pub(crate) fn list(&mut self, path: &[u8]) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        let Reply::Handle(handle) = self.ask(OPENDIR, &[Field::String(path)]) else {
            panic!("cannot list");
        };
        let mut lists = Vec::new();
        loop {
            match self.ask(READDIR, &[Field::String(&handle)]) {
                Reply::Names(names) => lists.push(names),
                reply => {
                    assert_eq!(reply, Reply::Status(EOF));
                    return lists;
                }
            }
        }
    }

    /// Closes the input and waits. Returns the exit status and standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The server ends with its input. A failed test may have left it busy.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn is_root(own: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    own.uid() == 0
}

pub(crate) fn open_to_all(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
