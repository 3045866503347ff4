//! `mtlsd fetch`: the same answers and the same explanations as through a running daemon, and the
//! exit codes of curl.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Ca, Daemon, Issued, Origin, Then, answer, binding, get, send, wait_for};
use rcgen::date_time_ymd;
use tempfile::TempDir;

/// A directory with a configuration of one binding, `b`, and its files.
struct Desk(TempDir);

impl Desk {
    fn new(ca: &Ca, client: &Issued, config: &str) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("mtlsd.toml", config);
        desk.write("client.pem", &client.pem());
        desk.write("ca.crt", &ca.pem);
        desk
    }

    /// One that reaches `origin` and is let in.
    fn of(ca: &Ca, origin: &Origin) -> Self {
        Self::new(ca, &ca.issue("client"), &binding(origin, ""))
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.0.path().join(name), content).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtlsd"));
        command
            .arg("fetch")
            .args(words)
            .current_dir(self.0.path())
            .env("MTLSD_STORE", self.0.path().join("store"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What is on stdout of a fetch that must end with 0, and say nothing else.
    fn told(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(ended(&output), (0, String::new()), "{words:?}");
        text(&output.stdout)
    }

    fn start(&self, words: &[&str]) -> Child {
        self.command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code, and what was said on stderr.
fn ended(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), text(&output.stderr))
}

/// An origin that says back what it was sent.
fn echo(ca: &Ca) -> Origin {
    Origin::with(ca, |request, tls| {
        answer(tls, &format!("{}\n\n{}", request.head, text(&request.body)))?;
        Ok(Then::Keep)
    })
}

#[test]
fn a_path_and_a_whole_url_are_fetched_with_the_certificate() {
    let ca = Ca::new();
    let (origin, client) = (Origin::start(&ca), ca.issue("client"));
    let desk = Desk::new(&ca, &client, &binding(&origin, ""));
    let url = format!("https://localhost:{}/x?y", origin.port);
    for words in [["b", "/x?y"], ["b", url.as_str()], ["B", "/x?y"]] {
        assert_eq!(desk.told(&words), client.serial);
    }
    let targets: Vec<_> = origin.requests();
    assert_eq!(targets.len(), 3);
    assert!(targets.iter().all(|request| request.target() == "/x?y"));
}

#[test]
fn nothing_has_to_listen_and_nothing_is_in_the_way_that_does() {
    let ca = Ca::new();
    let (origin, client) = (Origin::start(&ca), ca.issue("client"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = binding(&origin, "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    // Another binding's files are not looked at.
    let other = "[bindings.other]\nlisten = \"localhost:0\"\norigin = \"https://o\"\ncertificate = \"none.pem\"\n";
    let desk = Desk::new(&ca, &client, &format!("{config}{other}"));
    assert_eq!(desk.told(&["b", "/"]), client.serial);
    assert_eq!(desk.run(&["other", "/"]).status.code(), Some(1));
}

#[test]
fn method_fields_and_body_are_those_that_were_asked_for() {
    let ca = Ca::new();
    let origin = echo(&ca);
    let desk = Desk::of(&ca, &origin);
    desk.write("data", "one\ntwo\n");
    let plain = desk.told(&["b", "/"]);
    assert!(plain.starts_with("GET / HTTP/1.1\n") || plain.starts_with("GET / HTTP/1.1\r\n"));
    for line in [
        format!("host: localhost:{}", origin.port),
        "accept: */*".to_owned(),
        format!("user-agent: mtlsd/{}", env!("CARGO_PKG_VERSION")),
        "via: 1.1 mtlsd".to_owned(),
    ] {
        assert!(plain.lines().any(|one| one == line), "{line}: {plain}");
    }
    let posted = desk.told(&["b", "/", "-d", "a=b"]);
    assert!(posted.starts_with("POST / "), "{posted}");
    assert!(
        posted.contains("content-type: application/x-www-form-urlencoded\r\n"),
        "{posted}"
    );
    assert!(posted.ends_with("\n\na=b"), "{posted}");
    let words = [
        "b",
        "/",
        "-X",
        "PUT",
        "-H",
        "Content-Type: text/plain",
        "-H",
        "X-A: 1",
        "-H",
        "X-A: 2",
        "-H",
        "User-Agent: me",
        "--data",
        "@data",
    ];
    let put = desk.told(&words);
    assert!(put.starts_with("PUT / "), "{put}");
    for line in [
        "content-type: text/plain",
        "x-a: 1",
        "x-a: 2",
        "user-agent: me",
        "content-length: 8",
    ] {
        assert!(put.lines().any(|one| one == line), "{line}: {put}");
    }
    assert!(put.ends_with("\n\none\ntwo\n"), "{put}");
}

#[test]
fn stdin_is_sent_and_the_answer_written_piece_by_piece() {
    let ca = Ca::new();
    let origin = Origin::raw(&ca, |tls, _, _, _| {
        let mut seen = Vec::new();
        let mut byte = [0];
        // The answer begins with the first piece, and ends when the second has come.
        for (mark, piece) in [
            ("first", "5\r\nhello\r\n"),
            ("second", "6\r\n world\r\n0\r\n\r\n"),
        ] {
            while !text(&seen).contains(mark) {
                tls.read_exact(&mut byte)?;
                seen.push(byte[0]);
            }
            if mark == "first" {
                tls.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            }
            tls.write_all(piece.as_bytes())?;
            tls.flush()?;
        }
        Ok(())
    });
    let desk = Desk::of(&ca, &origin);
    let mut child = desk.start(&["b", "/", "-d", "@-"]);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(b"first").unwrap();
    let mut hello = [0; 5];
    stdout.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    stdin.write_all(b"second").unwrap();
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " world");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_answer_goes_where_it_was_asked_to() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        let body = if request.method() == "HEAD" {
            ""
        } else {
            "gone"
        };
        let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nX-A: b\r\n\r\n";
        tls.write_all(format!("{head}{body}").as_bytes())?;
        tls.flush()?;
        Ok(Then::Keep)
    });
    let desk = Desk::of(&ca, &origin);
    let head = "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nx-a: b\r\n\r\n";
    assert_eq!(desk.told(&["b", "/"]), "gone");
    assert_eq!(desk.told(&["b", "/", "-i"]), format!("{head}gone"));
    assert_eq!(desk.told(&["b", "/", "-I"]), head);
    assert_eq!(desk.told(&["b", "/", "-o", "file"]), "");
    assert_eq!(
        fs::read_to_string(desk.0.path().join("file")).unwrap(),
        "gone"
    );
    desk.write("file", "kept");
    desk.run(&["b", "/", "--fail", "-o", "file"]);
    assert_eq!(
        fs::read_to_string(desk.0.path().join("file")).unwrap(),
        "kept"
    );
    let output = desk.run(&["b", "/", "--fail"]);
    let said = "mtlsd: the origin answered 404 Not Found\n".to_owned();
    assert_eq!(ended(&output), (22, said.clone()));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(ended(&desk.run(&["b", "/", "-fs"])), (22, String::new()));
    assert_eq!(ended(&desk.run(&["b", "/", "-fsS"])), (22, said));
    let (code, said) = ended(&desk.run(&["b", "/", "-o", "no/such/file"]));
    assert_eq!(
        (
            code,
            said.starts_with("mtlsd: cannot write to no/such/file: ")
        ),
        (23, true),
        "{said}"
    );
}

/// What goes wrong in the same way for whoever asks a daemon, and for a fetch.
#[test]
fn failures_are_explained_as_the_proxy_explains_them() {
    let ca = Ca::new();
    let strangers = Ca::new();
    let client = ca.issue("client");
    let good = Origin::start(&ca);
    let theirs = Origin::start(&strangers);
    let silent = Origin::with(&ca, |_, _| {
        std::thread::sleep(Duration::from_secs(2));
        Ok(Then::Close)
    });
    let mute = Origin::with(&ca, |_, _| Ok(Then::Close));
    let indifferent = Origin::indifferent(&ca);
    let choosy = Origin::choosy(&ca, Arc::new(Mutex::new("nobody".to_owned())));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = nobody.local_addr().unwrap().port();
    drop(nobody);
    let own = |origin: &Origin, lines: &str| binding(origin, lines);
    let foreign = format!("https://elsewhere.test:{}/", good.port);
    let rows = [
        (60, own(&theirs, ""), "/"),
        (28, own(&silent, "response_timeout = \"200ms\""), "/"),
        (52, own(&mute, ""), "/"),
        (35, own(&indifferent, "require_request = true"), "/"),
        (58, own(&choosy, ""), "/"),
        (
            7,
            own(&good, &format!("connect_to = \"127.0.0.1:{dead}\"")),
            "/",
        ),
        (78, own(&good, ""), foreign.as_str()),
    ];
    for (code, config, url) in rows {
        let daemon = Daemon::start(&ca, &client, &config);
        let address = daemon.address("b");
        let explained = match url {
            "/" => get(address, "/"),
            url => send(
                address,
                &format!("GET {url} HTTP/1.1\r\nConnection: close\r\n\r\n"),
            ),
        };
        let explained = explained.body;
        assert!(explained.starts_with("mtlsd: "), "{explained}");
        let desk = Desk::new(&ca, &client, &config);
        let output = desk.run(&["b", url]);
        assert_eq!(ended(&output), (code, explained.clone()), "{config}");
        assert_eq!(text(&output.stdout), "");
        let head = desk.run(&["b", url, "-I"]);
        let first = explained.lines().next().unwrap();
        assert_eq!(ended(&head), (code, format!("{first}\n")));
        let quiet = desk.run(&["b", url, "-s"]);
        assert_eq!(ended(&quiet), (code, String::new()));
    }
}

#[test]
fn an_answer_that_breaks_off_or_takes_too_long_is_a_failure() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        tls.flush()?;
        if request.target() == "/slow" {
            std::thread::sleep(Duration::from_secs(5));
        }
        Ok(Then::Cut)
    });
    let desk = Desk::of(&ca, &origin);
    let output = desk.run(&["b", "/"]);
    let (code, said) = ended(&output);
    assert_eq!(
        (code, text(&output.stdout).as_str()),
        (18, "hello"),
        "{said}"
    );
    let output = desk.run(&["b", "/slow", "-m", "0.3"]);
    let said = "mtlsd: it took longer than 300ms\n".to_owned();
    assert_eq!(ended(&output), (28, said));
    assert_eq!(text(&output.stdout), "hello");
}

#[test]
fn mistakes_are_told_apart_by_their_exit_codes() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let desk = Desk::of(&ca, &origin);
    for (code, words, said) in [
        (
            2,
            &["c", "/"][..],
            "mtlsd: there is no binding \"c\", but b\n",
        ),
        (
            2,
            &["b", "api.test"],
            "mtlsd: `api.test` is neither a path nor an https:// URL\n  help: for a URL write https://api.test, for a path write /api.test\n",
        ),
        (
            2,
            &["b", "v1/me"],
            "mtlsd: `v1/me` is neither a path nor an https:// URL\n  help: a path begins with a slash: /v1/me\n",
        ),
        (
            2,
            &["/v1/me", "b"],
            "mtlsd: `/v1/me` is not the name of a binding\n  help: the binding comes first: b /v1/me\n",
        ),
        (
            2,
            &["b"],
            "mtlsd: no URL to fetch\n  help: write mtlsd fetch BINDING URL, for example mtlsd fetch payments /v1/me\n",
        ),
        (
            2,
            &["b", "ftp://api.test/"],
            "mtlsd: `ftp://api.test/` is neither a path nor an https:// URL\n",
        ),
        (
            2,
            &["b", "/", "-H", "none"],
            "mtlsd: --header: `none` is not `Name: value`\n",
        ),
        (
            2,
            &["b", "/", "-X", "A B"],
            "mtlsd: --request: `A B` is no method\n",
        ),
        (
            2,
            &["b", "/", "-X", "CONNECT"],
            "mtlsd: a tunnel is nothing to fetch\n",
        ),
        (
            26,
            &["b", "/", "-d", "@none"],
            "mtlsd: cannot read none: No such file or directory (os error 2)\n",
        ),
    ] {
        assert_eq!(
            ended(&desk.run(words)),
            (code, said.to_owned()),
            "{words:?}"
        );
    }
    assert_eq!(origin.accepted(), 0);
    desk.write("mtlsd.toml", "[bindings.b]\norigin = \"http://o\"\n");
    let (code, said) = ended(&desk.run(&["b", "/"]));
    assert_eq!(code, 78);
    assert!(said.contains("3 mistakes in ./mtlsd.toml"), "{said}");
    let missing = desk.run(&["b", "/", "-c", "none.toml"]);
    assert_eq!(missing.status.code(), Some(78), "{missing:?}");
}

#[test]
fn an_expired_certificate_is_presented_and_said_to_be_expired() {
    let ca = Ca::new();
    let origin = Origin::indifferent(&ca);
    let expired = ca.issue_with("client", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
        params.not_before = date_time_ymd(2019, 1, 1);
    });
    let desk = Desk::new(&ca, &expired, &binding(&origin, ""));
    let output = desk.run(&["b", "/"]);
    let (code, said) = ended(&output);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("expired") && said.ends_with("it is presented all the same\n"),
        "{said}"
    );
    assert_eq!(ended(&desk.run(&["b", "/", "-s"])), (0, String::new()));
}

#[test]
fn a_binding_of_a_wrangler_project_is_tried_without_a_worker() {
    let ca = Ca::new();
    let (origin, client) = (Origin::start(&ca), ca.issue("client"));
    let config = format!(
        "[bindings.MY_CERT]\nca = \"ca.crt\"\nconnect_to = \"127.0.0.1:{}\"\n",
        origin.port
    );
    let desk = Desk::new(&ca, &client, &config);
    let upload = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .args([
            "mtls-certificate",
            "upload",
            "--cert",
            "client.pem",
            "--key",
            "client.pem",
            "--store",
            "store",
        ])
        .current_dir(desk.0.path())
        .output()
        .unwrap();
    let said = text(&upload.stdout);
    let id = said
        .lines()
        .find_map(|line| line.strip_prefix("ID: "))
        .unwrap();
    desk.write(
        "wrangler.toml",
        &format!("[env.staging]\nmtls_certificates = [\n  {{ binding = \"MY_CERT\", certificate_id = \"{id}\" }}\n]\n"),
    );
    let words = [
        "MY_CERT",
        "https://localhost/",
        "--wrangler",
        "wrangler.toml",
        "--env",
        "staging",
    ];
    assert_eq!(desk.told(&words), client.serial);
    // It has no origin of its own.
    let mut words = words;
    words[1] = "/";
    let (code, said) = ended(&desk.run(&words));
    assert_eq!(code, 78, "{said}");
    assert!(said.starts_with("mtlsd: binding \"MY_CERT\""), "{said}");
}

#[test]
fn what_was_written_until_a_reader_leaves_is_all_there_is() {
    let ca = Ca::new();
    let origin = Origin::raw(&ca, |tls, _, _, _| {
        let mut head = [0; 4096];
        let _ = tls.read(&mut head)?;
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            tls.write_all(&[b'x'; 4096])?;
        }
    });
    let desk = Desk::of(&ca, &origin);
    let mut child = desk.start(&["b", "/", "-s"]);
    let mut stdout = child.stdout.take().unwrap();
    let mut some = [0; 100];
    stdout.read_exact(&mut some).unwrap();
    drop(stdout);
    let code = wait_for("its end", || child.try_wait().unwrap().ok_or("it runs"));
    assert_eq!(code.code(), Some(23));
}

/// What an origin's response says about certificates goes to stderr, and makes --fail end with 58.
#[test]
fn a_complaint_of_the_origin_is_explained() {
    let ca = Ca::new();
    let page = |status: &'static str, page: &'static str| {
        move |_: &crate::support::Request, tls: &mut crate::support::Tls| {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            );
            tls.write_all(head.as_bytes())?;
            tls.flush()?;
            Ok(Then::Keep)
        }
    };
    for (origin, status, body, word) in [
        (
            Origin::with(&ca, page("400 Bad Request", NO_CERTIFICATE)),
            400,
            NO_CERTIFICATE,
            "its page says that no certificate came",
        ),
        (
            Origin::with(&ca, page("400 Bad Request", NOT_ACCEPTED)),
            400,
            NOT_ACCEPTED,
            "its page says that the certificate is not accepted",
        ),
        (
            Origin::with(&ca, page("496 None", "none")),
            496,
            "none",
            "answered 496",
        ),
    ] {
        let desk = Desk::of(&ca, &origin);
        let plain = desk.run(&["b", "/"]);
        let (code, said) = ended(&plain);
        assert_eq!((code, text(&plain.stdout).as_str()), (0, body), "{said}");
        assert!(
            said.contains(word) && said.contains("next step: "),
            "{status}: {said}"
        );
        let failing = desk.run(&["b", "/", "--fail"]);
        let (code, said) = ended(&failing);
        assert_eq!((code, text(&failing.stdout).as_str()), (58, ""), "{said}");
        assert!(said.contains(word), "{status}: {said}");
        assert_eq!(ended(&desk.run(&["b", "/", "-fs"])), (58, String::new()));
        let (code, said) = ended(&desk.run(&["b", "/", "-sS"]));
        assert_eq!((code, said.contains(word)), (0, true), "{said}");
        // The field stays for whoever looks at heads.
        let head = text(&desk.run(&["b", "/", "-i"]).stdout);
        assert!(
            head.contains("\r\nproxy-status: mtlsd; received-status="),
            "{head}"
        );
    }
    // A page about something else is none of ours.
    let other = Origin::with(&ca, page("400 Bad Request", "no such thing"));
    let desk = Desk::of(&ca, &other);
    assert_eq!(ended(&desk.run(&["b", "/"])), (0, String::new()));
    assert_eq!(ended(&desk.run(&["b", "/", "--fail"])).0, 22);
}

const NO_CERTIFICATE: &str = "<h1>400 No required SSL certificate was sent</h1>";
const NOT_ACCEPTED: &str = "<h1>400 The SSL certificate error</h1>";
