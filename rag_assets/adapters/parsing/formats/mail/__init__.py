"""E-mail: messages, mailboxes, and the text of their parts."""
