//! Every route, in one table: method, path, what happens when the client goes away, handler.

use hyper::Method;

use crate::http::route::{Lifetime, Route};

/// `METHOD "pattern" lifetime => handler` lines to a list of routes.
macro_rules! routes {
    ($($method:ident $pattern:literal $lifetime:ident => $handler:path;)*) => {
        vec![$(Route::new(
            Method::$method,
            $pattern,
            Lifetime::$lifetime,
            |request| Box::pin($handler(request)),
        )),*]
    };
}

mod archive;
mod attach;
mod build;
mod containers;
mod events;
mod execs;
mod images;
mod logs;
mod networks;
mod operations;
mod progress;
mod stats;
mod swarm;
mod system;
mod transfer;
mod volumes;

/// The table. Order matters only where patterns overlap: literals come before names.
pub(crate) fn all() -> Vec<Route> {
    let mut all = system_routes();
    all.extend(container_routes());
    all.extend(image_routes());
    all.extend(network_and_volume_routes());
    all.extend(swarm::all());
    all
}

fn system_routes() -> Vec<Route> {
    routes! {
        GET "/_ping" WithClient => system::ping;
        HEAD "/_ping" WithClient => system::head_ping;
        GET "/version" WithClient => system::version;
        GET "/info" WithClient => system::info;
        GET "/system/df" WithClient => system::disk_usage;
        POST "/auth" WithClient => system::authenticate;
        GET "/events" WithClient => events::stream;
        GET "/wharf/ops" WithClient => operations::list;
    }
}

fn container_routes() -> Vec<Route> {
    routes! {
        GET "/containers/json" WithClient => containers::list;
        POST "/containers/create" Detached => containers::create;
        POST "/containers/prune" Detached => containers::prune;
        GET "/containers/{id}/json" WithClient => containers::inspect;
        GET "/containers/{id}/top" WithClient => containers::top;
        GET "/containers/{id}/why" WithClient => containers::why;
        GET "/containers/{id}/logs" WithClient => logs::stream;
        GET "/containers/{id}/changes" WithClient => containers::changes;
        GET "/containers/{id}/export" WithClient => archive::export;
        GET "/containers/{id}/stats" WithClient => stats::stream;
        GET "/containers/{id}/archive" WithClient => archive::fetch;
        HEAD "/containers/{id}/archive" WithClient => archive::stat;
        PUT "/containers/{id}/archive" Detached => archive::put;
        POST "/containers/{id}/start" Detached => containers::start;
        POST "/containers/{id}/stop" Detached => containers::stop;
        POST "/containers/{id}/restart" Detached => containers::restart;
        POST "/containers/{id}/kill" Detached => containers::kill;
        POST "/containers/{id}/pause" Detached => containers::pause;
        POST "/containers/{id}/unpause" Detached => containers::unpause;
        POST "/containers/{id}/rename" Detached => containers::rename;
        POST "/containers/{id}/update" Detached => containers::update;
        POST "/containers/{id}/resize" Detached => containers::resize;
        POST "/containers/{id}/wait" WithClient => containers::wait;
        POST "/containers/{id}/attach" Detached => attach::container;
        POST "/containers/{id}/exec" Detached => execs::create;
        DELETE "/containers/{id}" Detached => containers::remove;
        POST "/exec/{id}/start" Detached => execs::start;
        POST "/exec/{id}/resize" Detached => execs::resize;
        GET "/exec/{id}/json" WithClient => execs::inspect;
        POST "/commit" Detached => containers::commit;
    }
}

fn image_routes() -> Vec<Route> {
    routes! {
        GET "/images/json" WithClient => images::list;
        POST "/images/create" WithClient => transfer::create;
        POST "/images/load" WithClient => transfer::load;
        POST "/images/prune" Detached => images::prune;
        GET "/images/get" WithClient => transfer::save_several;
        GET "/images/search" WithClient => images::search;
        GET "/images/{name...}/json" WithClient => images::inspect;
        GET "/images/{name...}/history" WithClient => images::history;
        GET "/images/{name...}/get" WithClient => transfer::save_one;
        POST "/images/{name...}/tag" Detached => images::tag;
        POST "/images/{name...}/push" WithClient => transfer::push;
        DELETE "/images/{name...}" Detached => images::remove;
        GET "/distribution/{name...}/json" WithClient => transfer::distribution;
        POST "/build" WithClient => build::build;
        POST "/build/prune" Detached => build::prune;
        POST "/build/cancel" WithClient => build::cancel;
    }
}

fn network_and_volume_routes() -> Vec<Route> {
    routes! {
        GET "/networks" WithClient => networks::list;
        GET "/networks/" WithClient => networks::list;
        POST "/networks/create" Detached => networks::create;
        POST "/networks/prune" Detached => networks::prune;
        POST "/networks/{id...}/connect" Detached => networks::connect;
        POST "/networks/{id...}/disconnect" Detached => networks::disconnect;
        GET "/networks/{id...}" WithClient => networks::inspect;
        DELETE "/networks/{id...}" Detached => networks::remove;
        GET "/volumes" WithClient => volumes::list;
        POST "/volumes/create" Detached => volumes::create;
        POST "/volumes/prune" Detached => volumes::prune;
        GET "/volumes/{name...}" WithClient => volumes::inspect;
        PUT "/volumes/{name...}" WithClient => volumes::update;
        DELETE "/volumes/{name...}" Detached => volumes::remove;
    }
}
