"""What users are told of their time on call, and reminders."""
