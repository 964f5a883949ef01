module dpservice

go 1.25
