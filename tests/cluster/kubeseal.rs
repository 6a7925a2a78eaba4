//! `kubeseal` against the controller, through the API server's service proxy, with the rights that are shipped for everybody: every line of docs/kubeseal.md that a cluster has a part in. What needs none is in cli/tests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bulla::bitnami::{BitnamiSealedSecret, Certificate, open};
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla_tests::{binary, build_established, eventually, netns, skip, write_private};
use kube::api::ListParams;
use serde_json::Value;

use super::bitnami::{PAIRS, Pair};
use super::world::{SOON, World};

/// The command, called by its name.
struct Kubeseal {
    dir: tempfile::TempDir,
    program: PathBuf,
    kubeconfig: String,
    system: String,
}

impl Kubeseal {
    /// As a service account that has what is shipped for whoever may log in, and no other rights.
    async fn of(world: &World) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = dir.path().join("kubeseal");
        std::os::unix::fs::symlink(binary("bulla")?, &program)?;
        let kubeconfig = world.cluster.service_account_kubeconfig(&world.app, "default", dir.path()).await?;
        Ok(Self { kubeconfig: kubeconfig.display().to_string(), program, dir, system: world.system.clone() })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, mut command: Command, input: &str) -> Result<Output> {
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        // A program may end without having read everything.
        _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// With the cluster's flags.
    fn ask(&self, words: &[&str], input: &str) -> Result<Output> {
        let cluster = ["--kubeconfig", &self.kubeconfig, "--controller-namespace", &self.system];
        self.run(self.command(&[words, &cluster].concat()), input)
    }

    fn read(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.dir.path().join(name))?)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.dir.path().join(name), text)?)
    }
}

fn well(output: &Output) -> Result<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}\n{out}\n{err}", output.status);
    Ok(out.into_owned())
}

fn refused(output: &Output, words: &str) -> Result<()> {
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{}\n{err}", output.status);
    ensure!(err.starts_with("error: ") && err.contains(words), "{words:?} is not in\n{err}");
    Ok(())
}

fn only(text: &str) -> Result<BitnamiSealedSecret> {
    let stream = bulla::manifest::Stream::read(text.as_bytes())?;
    Ok(stream.object(0).context("no object")?.bitnami()?.sealed)
}

fn opens_with(pair: &Pair, text: &str) -> Result<bool> {
    Ok(open(&only(text)?, &[&pair.key()], None).is_ok())
}

/// A controller behind the Service of the established one, with one key.
async fn published(prefix: &str) -> Result<Option<(World, Kubeseal)>> {
    let Some(address) = netns::address() else {
        skip(
            "the API server's service proxy reaches processes only in a network namespace (cargo xtask test makes one)",
        );
        return Ok(None);
    };
    let mut world = World::bitnami(prefix, &["--bitnami", "--key-order-priority", "SecretCreationTimestamp"]).await?;
    world.http_addr = format!("{address}:0");
    world.plant_key(&world.system, "sealed-secrets-keyaaaaa", Some("active"), &PAIRS[0]).await?;
    world.start().await?;
    let port: u16 = world.address("http").await?.rsplit(':').next().context("a port")?.parse()?;
    world.cluster.publish_service(&world.system, "sealed-secrets-controller", "http", &address, port).await?;
    let kubeseal = Kubeseal::of(&world).await?;
    eventually("the controller behind the proxy", SOON, async || well(&kubeseal.ask(&["--fetch-cert"], "")?)).await?;
    Ok(Some((world, kubeseal)))
}

#[tokio::test]
async fn sealing_checking_and_renewing_through_the_service_proxy() -> Result<()> {
    let Some((mut world, kubeseal)) = published("kubeseal").await? else { return Ok(()) };
    world.guard("hunter2-kubeseal");
    world.guard("hunter3-kubeseal");
    let app = world.app.clone();

    // The certificate, as it is, and as what sealing offline takes.
    let certificate = well(&kubeseal.ask(&["--fetch-cert"], "")?)?;
    let fingerprint = Certificate::from_pem(certificate.as_bytes())?.fingerprint();
    ensure!(fingerprint == PAIRS[0].certificate().fingerprint());
    kubeseal.write("cert.pem", &certificate)?;

    // A name that is no DNS label, and the namespace of the kubeconfig.
    let secret = |name: &str, namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n{namespace}  labels: {{app: db}}\n\
             stringData:\n  a: hunter2-kubeseal\n"
        )
    };
    let here = format!("  namespace: {app}\n");
    let sealed = well(&kubeseal.ask(&[], &secret("testSecret", &here))?)?;
    let object: Value = serde_json::from_str(&sealed)?;
    ensure!(object["kind"] == "SealedSecret" && object["metadata"]["name"] == "testSecret", "{sealed}");
    ensure!(object["metadata"]["namespace"] == app.as_str() && opens_with(&PAIRS[0], &sealed)?, "{sealed}");
    ensure!(well(&kubeseal.ask(&["--validate"], &sealed)?)?.is_empty());
    let offline = kubeseal.run(kubeseal.command(&["--cert", "cert.pem", "-oyaml"]), &secret("db", &here))?;
    let offline = well(&offline)?;
    ensure!(opens_with(&PAIRS[0], &offline)?);
    kubeseal.write(
        "db.yaml",
        &offline.replace("  template:\n", "  template:   # ours\n    data: {b: '{{ .a | upper }}'}\n"),
    )?;

    // Whether it opens is asked of the controller; what was moved does not.
    ensure!(well(&kubeseal.ask(&["--validate", "-f", "db.yaml"], "")?)?.is_empty());
    let moved = sealed.replace("testSecret", "a-completely-different-name");
    refused(&kubeseal.ask(&["--validate"], &moved)?, "unable to decrypt sealed secret")?;
    refused(&kubeseal.ask(&["--re-encrypt"], &moved)?, "unable to rotate secret")?;
    let cut = sealed.replacen("\"AQ", "\"!!", 1);
    refused(&kubeseal.ask(&["--validate"], &cut)?, "unable to decrypt sealed secret")?;

    // Another value, and one alone.
    let more = "apiVersion: v1\nkind: Secret\nstringData: {c: hunter3-kubeseal}\n";
    well(&kubeseal.ask(&["--merge-into", "db.yaml"], more)?)?;
    let raw = kubeseal.ask(&["--raw", "--name", "db", "--namespace", &app], "hunter3-kubeseal")?;
    let raw = well(&raw)?;
    let text = kubeseal.read("db.yaml")?.replace("    c: ", &format!("    d: {raw}\n    c: "));
    kubeseal.write("db.yaml", &text)?;
    ensure!(well(&kubeseal.ask(&["--validate", "-f", "db.yaml"], "")?)?.is_empty());

    // A new key: the certificate changes, old files open, and are renewed without losing anything.
    // Times of creation are whole seconds.
    let first =
        world.key_secrets().get("sealed-secrets-keyaaaaa").await?.metadata.creation_timestamp.context("time")?;
    eventually("the next second", SOON, async || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        ensure!(i64::try_from(now)? > first.0.as_second());
        Ok(())
    })
    .await?;
    world.plant_key(&world.system, "sealed-secrets-keybbbbb", Some("active"), &PAIRS[1]).await?;
    eventually("the newer certificate", SOON, async || {
        let certificate = well(&kubeseal.ask(&["--fetch-cert"], "")?)?;
        let newer = Certificate::from_pem(certificate.as_bytes())?.fingerprint();
        ensure!(newer != fingerprint, "it is the old one");
        Ok(())
    })
    .await?;
    let before = kubeseal.read("db.yaml")?;
    well(&kubeseal.ask(&["--re-encrypt", "-f", "db.yaml"], "")?)?;
    let after = kubeseal.read("db.yaml")?;
    ensure!(opens_with(&PAIRS[1], &after)? && !opens_with(&PAIRS[0], &after)?);
    let items = |text: &str| Ok::<_, anyhow::Error>(only(text)?.spec.encrypted_data);
    let mut restored = after.clone();
    for (key, text) in items(&after)? {
        restored = restored.replace(&text, &items(&before)?[&key]);
    }
    ensure!(restored == before, "more than the sealed texts changed:\n{before}\n{after}");
    // The controller makes the Secret of what was sealed, merged and renewed.
    world.cluster.apply(&after).await?;
    let values =
        [("a", "hunter2-kubeseal"), ("b", "HUNTER2-KUBESEAL"), ("c", "hunter3-kubeseal"), ("d", "hunter3-kubeseal")];
    world.holds("db", &values).await?;
    let json = well(&kubeseal.ask(&["--rotate"], &sealed)?)?;
    ensure!(opens_with(&PAIRS[1], &json)? && json.starts_with("{\n  \"kind\""), "{json}");

    // And the key that a backup has opens it without any cluster.
    let keys = ListParams::default().labels(BITNAMI_KEY_LABEL);
    let backup = serde_json::to_string(&world.key_secrets().list(&keys).await?.items)?;
    kubeseal.write("keys.json", &format!("{{\"apiVersion\":\"v1\",\"kind\":\"SecretList\",\"items\":{backup}}}"))?;
    let unseal =
        ["--recovery-unseal", "--recovery-private-key", "keys.json", "-f", "db.yaml", "--kubeconfig", "/?gone"];
    let secret: Value = serde_json::from_str(&well(&kubeseal.run(kubeseal.command(&unseal), "")?)?)?;
    let found = |key: &str| {
        let bytes = secret["data"][key].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    };
    for (key, expected) in values {
        ensure!(found(key) == expected, "{key}: {}", found(key));
    }
    world.finish().await
}

#[tokio::test]
async fn who_may_not_is_told_so_and_what_is_not_there_as_well() -> Result<()> {
    let Some((world, kubeseal)) = published("kubeseal-no").await? else { return Ok(()) };
    let none = kubeseal.ask(&["--fetch-cert", "--controller-name", "other"], "")?;
    refused(&none, "cannot get sealed secret service: services \"other\" is forbidden")?;
    let admin = world.cluster.kubeconfig().display().to_string();
    let gone = ["--fetch-cert", "--kubeconfig", &admin, "--controller-namespace", "default"];
    refused(&kubeseal.run(kubeseal.command(&gone), "")?, "services \"sealed-secrets-controller\" not found")?;
    let stranger = kubeseal.ask(&["--fetch-cert", "--token", "no-such-token"], "")?;
    refused(&stranger, "cannot get sealed secret service: Unauthorized")?;
    // An administrator may act as somebody; that somebody's rights count.
    let acting = |who: &str| {
        let flags = ["--fetch-cert", "--kubeconfig", &admin, "--controller-namespace", &kubeseal.system, "--as", who];
        kubeseal.run(kubeseal.command(&flags), "")
    };
    refused(&acting("system:anonymous")?, "User \"system:anonymous\" cannot get resource \"services\"")?;
    well(&acting("jane")?)?;
    // From the environment.
    let mut command = kubeseal.command(&["--fetch-cert"]);
    command.env("SEALED_SECRETS_CONTROLLER_NAMESPACE", &kubeseal.system).env("KUBECONFIG", &kubeseal.kubeconfig);
    well(&kubeseal.run(command, "")?)?;
    world.finish().await
}

/// A proxy on this machine, for CONNECT and SOCKS5. It tells of each tunnel where it leads, and with which credentials.
fn proxy() -> Result<(String, mpsc::Receiver<(String, String)>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (told, tunnels) = mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let told = told.clone();
            // A tunnel that breaks is the client's failure.
            std::thread::spawn(move || tunnel(client, &told).ok());
        }
    });
    Ok((address, tunnels))
}

fn tunnel(mut client: TcpStream, told: &mpsc::Sender<(String, String)>) -> Result<()> {
    let mut first = [0];
    client.read_exact(&mut first)?;
    let (target, credentials, done) = if first[0] == 5 {
        let mut count = [0];
        client.read_exact(&mut count)?;
        client.read_exact(&mut vec![0; count[0].into()])?;
        client.write_all(&[5, 0])?;
        let mut head = [0; 4];
        client.read_exact(&mut head)?;
        ensure!(head == [5, 1, 0, 1], "an address of IPv4: {head:?}");
        let mut to = [0; 6];
        client.read_exact(&mut to)?;
        let [a, b, c, d, high, low] = to;
        let port = u16::from_be_bytes([high, low]);
        (format!("{a}.{b}.{c}.{d}:{port}"), String::new(), vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    } else {
        let mut head = first.to_vec();
        while !head.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut first)?;
            head.extend(first);
        }
        let head = String::from_utf8(head)?;
        let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).context("CONNECT")?;
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("proxy-authorization: "));
        let credentials = line.and_then(|line| line.split(' ').nth(2)).unwrap_or_default();
        (target.to_owned(), credentials.to_owned(), b"HTTP/1.1 200 OK\r\n\r\n".to_vec())
    };
    let mut server = TcpStream::connect(&target)?;
    told.send((target, credentials))?;
    client.write_all(&done)?;
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut up, &mut down).ok());
    std::io::copy(&mut server, &mut client)?;
    Ok(())
}

#[tokio::test]
async fn through_the_proxy_that_a_flag_or_the_kubeconfig_names() -> Result<()> {
    let Some((world, kubeseal)) = published("kubeseal-proxy").await? else { return Ok(()) };
    let (address, tunnels) = proxy()?;
    let server = world.cluster.server().trim_start_matches("https://").to_owned();
    let led = |credentials: &str| -> Result<()> {
        let first = tunnels.recv_timeout(SOON)?;
        ensure!(first == (server.clone(), credentials.to_owned()), "{first:?}");
        while tunnels.try_recv().is_ok() {}
        Ok(())
    };
    let fetch = |url: &str| kubeseal.ask(&["--fetch-cert", "--proxy-url", url], "");
    for (url, credentials) in [
        (format!("http://{address}"), String::new()),
        (format!("http://anna:hunter2%40proxy@{address}"), BASE64_STANDARD.encode("anna:hunter2@proxy")),
        (format!("socks5://{address}"), String::new()),
    ] {
        ensure!(well(&fetch(&url)?)?.starts_with("-----BEGIN CERTIFICATE-----"));
        led(&credentials)?;
    }
    // Sealed texts go through it too.
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: {}}}\nstringData: {{a: x}}\n",
        world.app
    );
    let sealed = well(&kubeseal.ask(&["--proxy-url", &format!("http://{address}")], &secret)?)?;
    led("")?;
    well(&kubeseal.ask(&["--validate", "--proxy-url", &format!("http://{address}")], &sealed)?)?;
    led("")?;

    // The kubeconfig's; the flag goes before it. The rest of the program goes through it as well.
    let mut config: Value = serde_yaml::from_str(&fs::read_to_string(&kubeseal.kubeconfig)?)?;
    config["clusters"][0]["cluster"]["proxy-url"] = format!("http://{address}").into();
    let through = kubeseal.dir.path().join("through");
    write_private(&through, config.to_string().as_bytes())?;
    let through = through.display().to_string();
    let at = ["--kubeconfig", &through, "--controller-namespace", &kubeseal.system];
    well(&kubeseal.run(kubeseal.command(&[&["--fetch-cert"][..], &at].concat()), "")?)?;
    led("")?;
    let mut bulla = Command::new(binary("bulla")?);
    bulla.args(["recipients"]).args(at).current_dir(kubeseal.dir.path()).env_clear().env("HOME", kubeseal.dir.path());
    let shown = bulla.output()?;
    ensure!(shown.status.success() && shown.stdout.windows(6).any(|word| word == b"age1pq"), "{shown:?}");
    led("")?;
    let gone = [&["--fetch-cert", "--proxy-url", "http://127.0.0.1:1"][..], &at].concat();
    refused(&kubeseal.run(kubeseal.command(&gone), "")?, "cannot get sealed secret service")?;
    ensure!(tunnels.try_recv().is_err());

    // This machine is reached without what the environment names; and what is no proxy is said, without its password.
    let mut command = kubeseal.command(&["--fetch-cert"]);
    command.args(["--kubeconfig", &kubeseal.kubeconfig, "--controller-namespace", &kubeseal.system]);
    command.env("HTTPS_PROXY", format!("http://{address}"));
    well(&kubeseal.run(command, "")?)?;
    ensure!(tunnels.try_recv().is_err());
    let wrong = fetch("ftp://anna:hunter2@proxy.test")?;
    refused(&wrong, "the proxy proxy.test is no URL of a proxy")?;
    ensure!(!String::from_utf8_lossy(&wrong.stderr).contains("hunter2"));
    world.finish().await
}

/// The established command, built from its module.
async fn established_command() -> Result<PathBuf> {
    Ok(tokio::task::spawn_blocking(build_established).await??.join("kubeseal"))
}

#[tokio::test]
async fn every_flag_of_the_established_command_is_known() -> Result<()> {
    let help = Command::new(established_command().await?).arg("--help").output()?;
    let help = [help.stdout, help.stderr].concat();
    let help = String::from_utf8_lossy(&help);
    let flags: Vec<&str> = help
        .lines()
        .filter_map(|line| line.split_once("--").filter(|(before, _)| before.trim().len() <= 3)?.1.split(' ').next())
        .collect();
    ensure!(flags.len() > 40 && flags.contains(&"proxy-url") && flags.contains(&"merge-into"), "{flags:?}");
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("kubeseal");
    std::os::unix::fs::symlink(binary("bulla")?, &program)?;
    for flag in flags {
        // What the flag makes of the word is its own; that there is such a flag is what counts.
        let run = Command::new(&program).args([&format!("--{flag}=1"), "--version"]).env_clear().output()?;
        let err = String::from_utf8_lossy(&run.stderr);
        ensure!(!err.contains("unknown flag") && !err.contains("unexpected argument"), "--{flag}: {err}");
    }
    let unknown = Command::new(&program).arg("--no-such-flag=1").env_clear().output()?;
    ensure!(String::from_utf8_lossy(&unknown.stderr).contains("--no-such-flag"), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn the_established_command_works_with_this_controller() -> Result<()> {
    let Some((mut world, mut kubeseal)) = published("kubeseal-theirs").await? else { return Ok(()) };
    world.guard("hunter2-theirs");
    let (ours, theirs) = (kubeseal.program.clone(), established_command().await?);
    kubeseal.program = theirs.clone();
    let certificate = well(&kubeseal.ask(&["--fetch-cert"], "")?)?;
    ensure!(Certificate::from_pem(certificate.as_bytes())?.fingerprint() == PAIRS[0].certificate().fingerprint());
    let secret = |scope: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: {}\n  labels: {{app: db}}\n{scope}\
             stringData: {{a: hunter2-theirs, b: hunter2-theirs}}\n",
            world.app
        )
    };
    for scope in ["strict", "namespace-wide", "cluster-wide"] {
        let annotations = match scope {
            "strict" => String::new(),
            wide => format!("  annotations: {{sealedsecrets.bitnami.com/{wide}: 'true'}}\n"),
        };
        // Each seals, and the other's front and this controller take it.
        for (sealer, opener) in [(&theirs, &ours), (&ours, &theirs)] {
            kubeseal.program = sealer.clone();
            let sealed = well(&kubeseal.ask(&[], &secret(&annotations))?)?;
            kubeseal.program = opener.clone();
            well(&kubeseal.ask(&["--validate"], &sealed)?)?;
            let renewed = well(&kubeseal.ask(&["--re-encrypt"], &sealed)?)?;
            ensure!(opens_with(&PAIRS[0], &renewed)? && renewed != sealed, "{renewed}");
            ensure!(only(&renewed)?.spec.template == only(&sealed)?.spec.template, "{sealed}\n{renewed}");
            let moved = sealed.replace("\"db\"", "\"other\"");
            let run = kubeseal.ask(&["--validate"], &moved)?;
            ensure!(run.status.success() == (scope != "strict"), "{scope} {run:?}");
            kubeseal.write("key.pem", &PAIRS[0].private_key)?;
            let open = ["--recovery-unseal", "--recovery-private-key", "key.pem"];
            let opened = well(&kubeseal.run(kubeseal.command(&open), &renewed)?)?;
            let opened: Value = serde_json::from_str(&opened)?;
            ensure!(opened["data"]["a"] == BASE64_STANDARD.encode("hunter2-theirs"), "{scope}");
        }
    }
    // What it asks for in vain.
    kubeseal.program = theirs;
    let none = kubeseal.ask(&["--fetch-cert", "--controller-name", "other"], "")?;
    ensure!(!none.status.success());
    world.finish().await
}
