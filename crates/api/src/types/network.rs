//! Networks and the endpoints of containers in them.

use std::collections::BTreeMap;

use super::StringMap;

wire! {
    /// A container's place in a network: what was asked for, then what is.
    pub struct EndpointSettings {
        ipam_config: Option<EndpointIpamConfig> = "IPAMConfig",
        links: Option<Vec<String>> = "Links",
        aliases: Option<Vec<String>> = "Aliases",
        mac_address: String = "MacAddress",
        driver_opts: Option<StringMap> = "DriverOpts",
        gw_priority: i64 = "GwPriority",
        network_id: String = "NetworkID",
        endpoint_id: String = "EndpointID",
        gateway: String = "Gateway",
        ip_address: String = "IPAddress",
        ip_prefix_len: i64 = "IPPrefixLen",
        ipv6_gateway: String = "IPv6Gateway",
        global_ipv6_address: String = "GlobalIPv6Address",
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen",
        dns_names: Option<Vec<String>> = "DNSNames",
    }

    /// The fixed addresses of an endpoint.
    pub struct EndpointIpamConfig {
        ipv4_address: String = "IPv4Address" omitempty,
        ipv6_address: String = "IPv6Address" omitempty,
        link_local_ips: Vec<String> = "LinkLocalIPs" omitempty,
    }

    /// One network, as listed and as inspected.
    pub struct Network {
        name: String = "Name",
        id: String = "Id",
        created: String = "Created",
        scope: String = "Scope",
        driver: String = "Driver",
        enable_ipv4: bool = "EnableIPv4",
        enable_ipv6: bool = "EnableIPv6",
        ipam: Ipam = "IPAM",
        internal: bool = "Internal",
        attachable: bool = "Attachable",
        ingress: bool = "Ingress",
        config_from: ConfigReference = "ConfigFrom",
        config_only: bool = "ConfigOnly",
        /// Absent in lists from 1.28 on.
        containers: Option<BTreeMap<String, NetworkContainer>> = "Containers" omitempty,
        options: Option<StringMap> = "Options",
        labels: Option<StringMap> = "Labels",
    }

    /// A container in a network.
    pub struct NetworkContainer {
        name: String = "Name",
        endpoint_id: String = "EndpointID",
        mac_address: String = "MacAddress",
        ipv4_address: String = "IPv4Address",
        ipv6_address: String = "IPv6Address",
    }

    /// The address management of a network.
    pub struct Ipam {
        driver: String = "Driver",
        options: Option<StringMap> = "Options",
        config: Option<Vec<IpamConfig>> = "Config",
    }

    /// One subnet of a network.
    pub struct IpamConfig {
        subnet: String = "Subnet" omitempty,
        ip_range: String = "IPRange" omitempty,
        gateway: String = "Gateway" omitempty,
        auxiliary_addresses: StringMap = "AuxiliaryAddresses" omitempty,
    }

    /// The network that a configuration is taken from.
    pub struct ConfigReference {
        network: String = "Network",
    }

    /// `POST /networks/create`.
    pub struct NetworkCreateRequest {
        name: String = "Name",
        check_duplicate: Option<bool> = "CheckDuplicate" omitempty,
        driver: String = "Driver",
        scope: String = "Scope",
        enable_ipv4: Option<bool> = "EnableIPv4" omitempty,
        enable_ipv6: Option<bool> = "EnableIPv6" omitempty,
        ipam: Option<Ipam> = "IPAM",
        internal: bool = "Internal",
        attachable: bool = "Attachable",
        ingress: bool = "Ingress",
        config_only: bool = "ConfigOnly",
        config_from: Option<ConfigReference> = "ConfigFrom",
        options: Option<StringMap> = "Options",
        labels: Option<StringMap> = "Labels",
    }

    /// The answer of `POST /networks/create`.
    pub struct NetworkCreateResponse {
        id: String = "Id",
        warning: String = "Warning",
    }

    /// `POST /networks/{id}/connect`.
    pub struct NetworkConnectRequest {
        container: String = "Container",
        endpoint_config: Option<EndpointSettings> = "EndpointConfig" omitempty,
    }

    /// `POST /networks/{id}/disconnect`.
    pub struct NetworkDisconnectRequest {
        container: String = "Container",
        force: bool = "Force",
    }

    /// The answer of `POST /networks/prune`.
    pub struct NetworksPruneResponse {
        networks_deleted: Option<Vec<String>> = "NetworksDeleted",
    }
}
