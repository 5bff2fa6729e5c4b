//! A network namespace with one way out, which is taken away: what is sent then vanishes, and nobody hears of it.

use std::process::Command;

use tokio::net::{TcpListener, TcpStream};

/// Made by root, with `ip`; dropped, it is removed.
pub struct Namespace {
    name: String,
    /// The first bytes of both addresses.
    network: String,
}

impl Namespace {
    pub fn create() -> Self {
        let number = rand::random::<u16>();
        let [high, low] = number.to_be_bytes();
        let made = Self {
            name: format!("rekey{number:04x}"),
            network: format!("10.{high}.{low}"),
        };
        let (name, network) = (&made.name, &made.network);
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name way-out netns {name}"
        ));
        ip(&format!("addr add {network}.1/24 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} addr add {network}.2/24 dev way-out"));
        ip(&format!("-n {name} link set way-out up"));
        made
    }

    /// Where a service of this machine is reached from inside.
    pub async fn forward(&self, place: &str) -> String {
        let listener = TcpListener::bind(format!("{}.1:0", self.network)).await;
        let listener = listener.unwrap();
        let from_inside = listener.local_addr().unwrap().to_string();
        let place = place.to_owned();
        tokio::spawn(async move {
            while let Ok((mut inside, _)) = listener.accept().await {
                let mut service = TcpStream::connect(&place).await.unwrap();
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut service).await;
                });
            }
        });
        from_inside
    }

    /// The same command, inside.
    pub fn inside(&self, outside: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command.arg(outside.get_program()).args(outside.get_args());
        command.envs(
            outside
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.current_dir(outside.get_current_dir().unwrap());
        command
    }

    /// Takes the way out away.
    pub fn cut(&self) {
        ip(&format!("link set {} down", self.name));
    }

    /// Gives it back.
    pub fn restore(&self) {
        ip(&format!("link set {} up", self.name));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end of the pair goes with it, and so the other.
        ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    let done = done.expect("iproute2 is installed");
    let wrong = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments}: {wrong}");
}
