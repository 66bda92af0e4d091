"""Who is on call when. `resolve` is the only function that answers it; paging, previews, lists and coverage all use it."""
