//! Bridges, endpoints and the rules between them, on a private host.

mod support;

use support::{address, on_host, sh};

#[test]
fn containers_of_one_network_reach_each_other_their_gateway_and_nothing_else() {
    on_host(|host| {
        let network = host.default_network();
        let one = host.run(&network, "one");
        let two = host.run(&network, "two");
        assert_eq!(
            (one.interface.as_str(), address(&one).to_string().as_str()),
            ("eth0", "172.17.0.2")
        );
        assert_eq!(address(&two).to_string(), "172.17.0.3");
        assert!(host.reaches("one", address(&two)));
        assert!(host.reaches("two", address(&one)));
        assert!(host.reaches("one", "172.17.0.1"));
        assert!(host.reaches("one", "127.0.0.1"));
        assert!(sh("busybox ping -c1 -W1 172.17.0.2").contains("1 packets received"));
    });
}
