//! Few long HTTP/2 connections do not pile up on one core: eight are four on each of two.

use testkit::{Ask, Connection, Protocol, eventually};

use crate::scene::{API, Scene};

#[test]
fn eight_long_connections_are_four_on_each_core() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    let mut connections: Vec<_> = (0..8)
        .map(|_| Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H2).unwrap())
        .collect();
    for connection in &mut connections {
        assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200);
    }
    eventually("four and four", || {
        let per_core: Vec<f64> = (0..2)
            .map(|core| gateway.metric(&format!("portcullis_core_connections{{core=\"{core}\"}}")))
            .collect();
        (per_core == [4.0, 4.0]).then_some(())
    });
    for connection in &mut connections {
        assert_eq!(connection.send(Ask::get(API, "/")).unwrap().status, 200);
    }
}
