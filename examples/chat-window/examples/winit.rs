//! A connection in winit's event loop, without a toolkit above it: the title of the window is the last message.
//!
//! `cargo run --example server -- --chat`, then `cargo run -p chat-window --example winit`. Closing the window closes the
//! connection.

use winit::application::ApplicationHandler;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::window::{Window, WindowId};
use wsync::{Background, CloseCode, Event};

/// winit's user event: there is something in [`Background::events`].
#[derive(Debug)]
struct Wake;

struct App {
    connection: Background,
    window: Option<Window>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:9001/".into());
    let event_loop = EventLoop::<Wake>::with_user_event().build()?;
    let proxy = event_loop.create_proxy();
    // An error says that the loop has ended; then nobody needs to be woken.
    let connection = Background::connect(&url, move || drop(proxy.send_event(Wake)))?;
    event_loop.run_app(&mut App { connection, window: None })?;
    Ok(())
}

impl ApplicationHandler<Wake> for App {
    fn user_event(&mut self, event_loop: &ActiveEventLoop, Wake: Wake) {
        while let Some(event) = self.connection.events().try_recv() {
            match event {
                Event::Open(_) => self.show("open"),
                Event::Message(message) => self.show(&message.to_string()),
                Event::Reconnecting { cause, delay, .. } => self.show(&format!("{cause}; again in {delay:?}")),
                Event::End(_) => event_loop.exit(),
                _ => {}
            }
        }
    }

    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        match event_loop.create_window(Window::default_attributes().with_title("connecting")) {
            Ok(window) => self.window = Some(window),
            Err(error) => {
                eprintln!("no window: {error}");
                event_loop.exit();
            }
        }
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if event == WindowEvent::CloseRequested {
            // Returns at once. The `End` that follows ends the loop.
            self.connection.close(CloseCode::NORMAL, "").expect("the code may be sent");
        }
    }
}

impl App {
    fn show(&self, text: &str) {
        if let Some(window) = &self.window {
            window.set_title(text);
        }
    }
}
