//! The daemon, as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::pki::{Ca, Issued};
use super::wait_for;

/// A running mtlsd, and the directory of its configuration. Killed when it is dropped.
pub struct Daemon {
    child: Child,
    pub directory: TempDir,
    log: Arc<Mutex<Vec<String>>>,
    access: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts it with this configuration and these files, and waits until it is ready.
    pub fn start(ca: &Ca, client: &Issued, config: &str) -> Self {
        let daemon = Self::launch(&[], |directory| {
            fs::write(directory.join("mtlsd.toml"), config).unwrap();
            fs::write(directory.join("client.pem"), client.pem()).unwrap();
            fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        });
        daemon.wait_ready();
        daemon
    }

    /// Starts it in a directory that `prepare` fills, with these variables.
    pub fn launch(variables: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        Self::launch_as(
            &format!("exec {} run", env!("CARGO_BIN_EXE_mtlsd")),
            variables,
            prepare,
        )
    }

    /// Starts it by this line of shell.
    pub fn launch_as(line: &str, variables: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let mut child = Command::new("sh")
            .args(["-c", line])
            .current_dir(directory.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = collect(child.stderr.take().unwrap());
        let access = collect(child.stdout.take().unwrap());
        Self {
            child,
            directory,
            log,
            access,
        }
    }

    pub fn wait_ready(&self) {
        self.wait_for_line("ready");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The first address that the binding of this name listens on.
    pub fn address(&self, binding: &str) -> SocketAddr {
        // It may serve before its log has come here.
        wait_for("an address", || {
            let lines = self.lines("serving");
            let line = lines.iter().find(|line| line["binding"] == binding);
            let listen = line.and_then(|line| line["listen"].as_str());
            listen
                .and_then(|listen| listen.split(' ').next()?.parse().ok())
                .ok_or_else(|| self.log())
        })
    }

    /// What it has said so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The access lines so far.
    pub fn access(&self) -> Vec<Value> {
        let lines = self.access.lock().unwrap();
        lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The log lines with this message.
    pub fn lines(&self, message: &str) -> Vec<Value> {
        let parsed = self
            .log()
            .into_iter()
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        parsed.filter(|line| line["message"] == message).collect()
    }

    pub fn wait_for_line(&self, message: &str) -> Value {
        wait_for(message, || {
            self.lines(message).pop().ok_or_else(|| self.log())
        })
    }

    /// Waits for this many lines with this message.
    pub fn wait_for_lines(&self, message: &str, count: usize) -> Vec<Value> {
        wait_for(message, || {
            let lines = self.lines(message);
            if lines.len() >= count {
                Ok(lines)
            } else {
                Err(self.log())
            }
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The largest resident memory it has had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// How many files it has open, how many threads, and how many KiB of memory.
    pub fn holds(&self) -> (usize, usize, u64) {
        // Only root may look at the files of a process that is not dumpable.
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", self.pid())).map_or(0, Iterator::count)
        };
        (count("fd"), count("task"), self.status("VmRSS:"))
    }

    /// How many TCP sockets it has open, its listeners among them.
    pub fn sockets(&self) -> usize {
        let tcp = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        let inodes: Vec<_> = tcp
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(9))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|link| {
                inodes
                    .iter()
                    .any(|inode| link.as_os_str() == inode.as_str())
            })
            .count()
    }

    /// How many directories it watches.
    pub fn watches(&self) -> usize {
        let infos = fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).unwrap();
        infos
            .filter_map(|info| fs::read_to_string(info.ok()?.path()).ok())
            .map(|info| {
                info.lines()
                    .filter(|line| line.starts_with("inotify "))
                    .count()
            })
            .sum()
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end: {:?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            collected.lock().unwrap().push(line);
        }
    });
    lines
}
