//! A pseudo-terminal with a program on it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A program on a terminal. Killed when it is dropped.
pub struct Terminal {
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
    closing: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts `command` with all three streams on a terminal of this width.
    pub fn start(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let stream = || -> File {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options.custom_flags(OFlags::NOCTTY.bits() as i32);
            options.open(name.to_str().unwrap()).unwrap()
        };
        let child = command
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        // The command holds the terminal open, too.
        drop(command);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        let closing = Arc::new(AtomicBool::new(false));
        let closes = Arc::clone(&closing);
        let reader = std::thread::spawn(move || {
            let mut master = File::from(master);
            let mut buffer = [0; 4096];
            let moment = Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            while !closes.load(Relaxed) {
                match poll(&mut [PollFd::new(&master, PollFlags::IN)], Some(&moment)) {
                    Ok(0) => continue,
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
                match master.read(&mut buffer) {
                    Ok(count @ 1..) => shown.lock().unwrap().extend_from_slice(&buffer[..count]),
                    // EIO once the program is gone.
                    _ => break,
                }
            }
        });
        Self {
            child,
            screen,
            closing,
            reader: Some(reader),
        }
    }

    /// What it has shown so far, with the escape sequences.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).replace("\r\n", "\n")
    }

    /// Closes the terminal, as its window is closed.
    pub fn close(&mut self) {
        self.closing.store(true, Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended and everything it printed is on the screen.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(Instant::now() < until, "it does not end: {}", self.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// mtlsd with these arguments, in `directory`, as if a person had typed it.
pub fn typed(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtlsd"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("TERM", "xterm-256color");
    for inherited in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI", "COLUMNS"] {
        command.env_remove(inherited);
    }
    command
}

/// mtlsd with these arguments, as the leader of a session on its terminal: the shell's place, since
/// a shell replaces itself with the last command of `sh -c`.
pub fn leading(directory: &Path, arguments: &[&str]) -> Command {
    // The standard library has no safe way to do that between fork and exec.
    let like = typed(directory, &["--exact", LEADER, "--ignored", "--nocapture"]);
    let mut leader = Command::new(std::env::current_exe().unwrap());
    leader.args(like.get_args()).current_dir(directory);
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => leader.env(name, value),
            None => leader.env_remove(name),
        };
    }
    leader.env(ARGUMENTS, arguments.join("\n"));
    leader
}

/// The other half of [`leading`], which a test of the name `LEADER` calls.
pub fn lead() {
    use std::os::unix::process::CommandExt;
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    rustix::process::setsid().unwrap();
    rustix::process::ioctl_tiocsctty(std::io::stdin()).unwrap();
    let error = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .args(arguments.split('\n'))
        .exec();
    panic!("{error}");
}

const LEADER: &str = "terminal::leader_of_a_session";
const ARGUMENTS: &str = "MTLSD_TEST_LEADER";
