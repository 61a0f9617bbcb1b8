"""Every other command: flags -> a call of a room below; and how a command runs."""
