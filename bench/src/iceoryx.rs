//! iceoryx2's request and response, both sides polling without a pause.

use super::processes::Running;
use iceoryx2::port::client::Client;
use iceoryx2::prelude::*;
use rustix::process::Signal;

/// As long as a message's head.
type Ping = [u8; 32];

fn service(
    name: &str,
) -> iceoryx2::service::port_factory::request_response::PortFactory<ipc::Service, Ping, (), Ping, ()> {
    let node = NodeBuilder::new().create::<ipc::Service>().expect("a node");
    let name = name.try_into().expect("a service's name");
    node.service_builder(&name).request_response::<Ping, Ping>().open_or_create().expect("a service")
}

pub fn serve(name: &str) {
    let service = service(name);
    let server = service.server_builder().create().expect("a server");
    loop {
        while let Some(request) = server.receive().expect("a request") {
            request.send_copy(*request).expect("a response");
        }
        std::hint::spin_loop();
    }
}

pub struct Iceoryx {
    client: Client<ipc::Service, Ping, (), Ping, ()>,
    server: Running,
}

impl Iceoryx {
    pub fn start() -> Self {
        let name = format!("bettong-bench-{}", std::process::id());
        let server = Running::of_self(&["iceoryx-server", &name]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let client = service(&name).client_builder().create().expect("a client");
        Self { client, server }
    }

    /// Keeps the server from polling, or lets it go on: it takes a core of two for as long as it does.
    pub fn polls(&self, does: bool) {
        self.server.signal(if does { Signal::CONT } else { Signal::STOP });
    }

    pub fn ping(&self) {
        let pending = self.client.send_copy([7; 32]).expect("a request");
        loop {
            if pending.receive().expect("a response").is_some() {
                return;
            }
            std::hint::spin_loop();
        }
    }
}
