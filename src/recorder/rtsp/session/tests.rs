mod login;
mod negotiation;
mod playing;
mod property;
mod script;
mod transport;
