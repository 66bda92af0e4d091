"""Who is on call when. `resolve` is the only answer; paging, previews, lists and coverage all ask it."""
